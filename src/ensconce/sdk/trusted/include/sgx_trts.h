/* SPDX-License-Identifier: Apache-2.0 */
/* What the trusted runtime offers to every enclave. */
#ifndef SGX_TRTS_H
#define SGX_TRTS_H

#include <stddef.h>
#include <stdint.h>

#include "sgx_defs.h"
#include "sgx_error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* 1 when every byte of [addr, addr + size) is enclave memory; 0 otherwise, or when it wraps. */
int SGXAPI sgx_is_within_enclave(const void *addr, size_t size);

/* 1 when no byte of [addr, addr + size) is enclave memory; 0 otherwise, or when it wraps. */
int SGXAPI sgx_is_outside_enclave(const void *addr, size_t size);

/* 1 once the enclave has crashed; nothing enters it any more. */
int SGXAPI sgx_is_enclave_crashed(void);

/* Fill a buffer (inside or outside) from RDRAND. SGX_ERROR_UNEXPECTED when RDRAND runs dry. */
sgx_status_t SGXAPI sgx_read_rand(unsigned char *rand, size_t length_in_bytes);

/* Read and write PKRU, the rights of protection keys. 1, or 0 in an enclave whose XFRM lacks it. */
int SGXAPI sgx_rdpkru(uint32_t *val);
int SGXAPI sgx_wrpkru(uint32_t val);

/* A symbol of the vendor's FIPS provider for OpenSSL, which is not part of this SDK: NULL. */
void *SGXAPI sgx_get_ossl_fips_sym(const char *symbol);

#ifdef __cplusplus
}
#endif

#endif
