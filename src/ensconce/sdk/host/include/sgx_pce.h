/* SPDX-License-Identifier: Apache-2.0 */
/* What programs know of the provisioning certification enclave (PCE). Its functions are not here:
 * on the emulated platform it is a role of the platform that only the quoting role can ask. */
#ifndef SGX_PCE_H
#define SGX_PCE_H

#include "sgx_key.h"
#include "sgx_report.h"

#define SGX_PCE_MK_ERROR(x) (0x0000F000 | (x))

typedef enum _sgx_pce_error_t {
    SGX_PCE_SUCCESS = SGX_PCE_MK_ERROR(0x0000),
    SGX_PCE_UNEXPECTED = SGX_PCE_MK_ERROR(0x0001),
    SGX_PCE_INVALID_PARAMETER = SGX_PCE_MK_ERROR(0x0002),
    SGX_PCE_OUT_OF_EPC = SGX_PCE_MK_ERROR(0x0003),
    SGX_PCE_INTERFACE_UNAVAILABLE = SGX_PCE_MK_ERROR(0x0004),
    SGX_PCE_INVALID_REPORT = SGX_PCE_MK_ERROR(0x0005),
    SGX_PCE_CRYPTO_ERROR = SGX_PCE_MK_ERROR(0x0006),
    SGX_PCE_INVALID_PRIVILEGE = SGX_PCE_MK_ERROR(0x0007),
    SGX_PCE_INVALID_TCB = SGX_PCE_MK_ERROR(0x0008),
} sgx_pce_error_t;

#define PCE_ID 0
#define PCE_ALG_RSA_OAEP_3072 1
#define PCE_NIST_P256_ECDSA_SHA256 0

/* How long the enclaves of quoting, or of verification, stay loaded. */
typedef enum _sgx_ql_request_policy {
    SGX_QL_PERSISTENT,
    SGX_QL_EPHEMERAL,
    SGX_QL_EPHEMERAL_QVE_MULTI_THREAD,
    SGX_QL_PERSISTENT_QVE_MULTI_THREAD,
    SGX_QL_DEFAULT = SGX_QL_PERSISTENT,
} sgx_ql_request_policy_t;

typedef struct _sgx_pce_info_t { /* 4 bytes */
    sgx_isv_svn_t pce_isv_svn;
    uint16_t pce_id;
} sgx_pce_info_t;

#endif
