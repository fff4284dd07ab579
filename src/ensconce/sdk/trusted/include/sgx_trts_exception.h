/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers for exceptions that happen inside the enclave. */
#ifndef SGX_TRTS_EXCEPTION_H
#define SGX_TRTS_EXCEPTION_H

#include <stddef.h>
#include <stdint.h>

#include "sgx_defs.h"

#define EXCEPTION_CONTINUE_SEARCH 0
#define EXCEPTION_CONTINUE_EXECUTION -1

typedef enum _sgx_exception_vector_t {
    SGX_EXCEPTION_VECTOR_DE = 0,
    SGX_EXCEPTION_VECTOR_DB = 1,
    SGX_EXCEPTION_VECTOR_BP = 3,
    SGX_EXCEPTION_VECTOR_BR = 5,
    SGX_EXCEPTION_VECTOR_UD = 6,
    SGX_EXCEPTION_VECTOR_GP = 13, /* reported when MISCSELECT.EXINFO is set */
    SGX_EXCEPTION_VECTOR_PF = 14, /* reported when MISCSELECT.EXINFO is set */
    SGX_EXCEPTION_VECTOR_MF = 16,
    SGX_EXCEPTION_VECTOR_AC = 17,
    SGX_EXCEPTION_VECTOR_XM = 19,
} sgx_exception_vector_t;

typedef enum _sgx_exception_type_t {
    SGX_EXCEPTION_HARDWARE = 3,
    SGX_EXCEPTION_SOFTWARE = 6,
} sgx_exception_type_t;

typedef struct _cpu_context_t {
    uint64_t rax;
    uint64_t rcx;
    uint64_t rdx;
    uint64_t rbx;
    uint64_t rsp;
    uint64_t rbp;
    uint64_t rsi;
    uint64_t rdi;
    uint64_t r8;
    uint64_t r9;
    uint64_t r10;
    uint64_t r11;
    uint64_t r12;
    uint64_t r13;
    uint64_t r14;
    uint64_t r15;
    uint64_t rflags;
    uint64_t rip;
} sgx_cpu_context_t;

typedef struct _exinfo_t {
    uint64_t faulting_address;
    uint32_t error_code;
    uint32_t reserved;
} sgx_misc_exinfo_t;

/* The registers at the exception. A handler may change them; execution goes on with them. */
typedef struct __attribute__((aligned(64))) _exception_info_t {
    sgx_cpu_context_t cpu_context;
    sgx_exception_vector_t exception_vector;
    sgx_exception_type_t exception_type;
    sgx_misc_exinfo_t exinfo;
    uint32_t exception_valid;
    uint32_t do_aex_mitigation;
    uint64_t xsave_size;
    uint64_t reserved[1];
    uint8_t xsave_area[]; /* xsave_size bytes in the standard XSAVE format */
} sgx_exception_info_t;

typedef int (*sgx_exception_handler_t)(sgx_exception_info_t *info);

#ifdef __cplusplus
extern "C" {
#endif

/* Call `handler` first (or else last) among the handlers. NULL when it could not be added. */
void *SGXAPI sgx_register_exception_handler(int is_first_handler,
                                            sgx_exception_handler_t exception_handler);

/* Remove a handler by what registering it returned: 1 done, 0 not known. */
int SGXAPI sgx_unregister_exception_handler(void *handler);

#ifdef __cplusplus
}
#endif

#endif
