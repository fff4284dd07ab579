/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes and settings of the DCAP quote library; those that are answered so far. */
#ifndef SGX_QL_LIB_COMMON_H
#define SGX_QL_LIB_COMMON_H

#include "sgx_quote.h"

#define SGX_QL_MK_ERROR(x) (0x0000E000 | (x))

typedef enum _quote3_error_t {
    SGX_QL_SUCCESS = 0x0000,
    SGX_QL_ERROR_UNEXPECTED = SGX_QL_MK_ERROR(0x0001),
    SGX_QL_ERROR_INVALID_PARAMETER = SGX_QL_MK_ERROR(0x0002),
    SGX_QL_ERROR_OUT_OF_MEMORY = SGX_QL_MK_ERROR(0x0003),
    SGX_QL_UNSUPPORTED_LOADING_POLICY = SGX_QL_MK_ERROR(0x000c),
    SGX_QL_INTERFACE_UNAVAILABLE = SGX_QL_MK_ERROR(0x000d),
} quote3_error_t;

typedef enum _sgx_ql_request_policy {
    SGX_QL_PERSISTENT,
    SGX_QL_EPHEMERAL,
    SGX_QL_DEFAULT = SGX_QL_PERSISTENT,
} sgx_ql_request_policy_t;

#endif
