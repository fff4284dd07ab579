/* SPDX-License-Identifier: Apache-2.0 */
/* The least of the vendor's interface that generated code needs. */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef enum {
    SGX_SUCCESS = 0,
    SGX_ERROR_UNEXPECTED = 1,
    SGX_ERROR_INVALID_PARAMETER = 2,
    SGX_ERROR_OUT_OF_MEMORY = 3
} sgx_status_t;
typedef uint64_t sgx_enclave_id_t;

#define SGX_CDECL
#define SGX_DLLIMPORT
#define SGX_NOCONVENTION
#define SGX_STDCALL
#define SGX_FASTCALL
#define SGX_UBRIDGE(attr, name, args...) attr name args

#ifdef __cplusplus
#define SGX_EXTERNC extern "C"
extern "C" {
#else
#define SGX_EXTERNC
#endif
void *sgx_ocalloc(size_t size);
void sgx_ocfree(void);
sgx_status_t sgx_ocall(const unsigned int index, void *ms);
sgx_status_t sgx_ocall_switchless(const unsigned int index, void *ms);
sgx_status_t sgx_ecall(const sgx_enclave_id_t eid, const int index, const void *table, void *ms);
sgx_status_t sgx_ecall_switchless(const sgx_enclave_id_t eid, const int index, const void *table,
                                  void *ms);
#ifdef __cplusplus
}
#endif
