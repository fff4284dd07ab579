/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID, asked of the host: an answer to be used for speed and never for security. Needs
   sgx_tstdc.edl. */
#ifndef SGX_CPUID_H
#define SGX_CPUID_H

#include "sgx_defs.h"
#include "sgx_error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* EAX, EBX, ECX and EDX of a leaf, and of a subleaf. */
sgx_status_t SGXAPI sgx_cpuid(int cpuinfo[4], int leaf);
sgx_status_t SGXAPI sgx_cpuidex(int cpuinfo[4], int leaf, int subleaf);

#ifdef __cplusplus
}
#endif

#endif
