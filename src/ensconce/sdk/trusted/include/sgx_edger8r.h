/* SPDX-License-Identifier: Apache-2.0 */
/* What the generated bridges call. */
#ifndef SGX_EDGER8R_H
#define SGX_EDGER8R_H

#include <stddef.h>

#include "sgx_defs.h"
#include "sgx_eid.h"
#include "sgx_error.h"

#ifdef __cplusplus
#define SGX_EXTERNC extern "C"
#else
#define SGX_EXTERNC
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Take `size` bytes of the host's stack for an OCALL's arguments. NULL when they do not fit.
   A host stack pointer into the enclave ends the enclave. */
void *SGXAPI sgx_ocalloc(size_t size);

/* Give back all that sgx_ocalloc took since this ECALL or OCALL return. */
void SGXAPI sgx_ocfree(void);

/* Leave the enclave for OCALL `index` and return with the host's status. */
sgx_status_t SGXAPI sgx_ocall(const unsigned int index, void *ms);
sgx_status_t SGXAPI sgx_ocall_switchless(const unsigned int index, void *ms);

/* Host side. */
sgx_status_t SGXAPI sgx_ecall(const sgx_enclave_id_t eid, const int index, const void *ocall_table,
                              void *ms);
sgx_status_t SGXAPI sgx_ecall_switchless(const sgx_enclave_id_t eid, const int index,
                                         const void *ocall_table, void *ms);

#ifdef __cplusplus
}
#endif

#endif
