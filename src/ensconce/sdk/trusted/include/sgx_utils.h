/* SPDX-License-Identifier: Apache-2.0 */
/* Reports and keys: EREPORT and EGETKEY as functions. */
#ifndef SGX_UTILS_H
#define SGX_UTILS_H

#include "sgx.h"
#include "sgx_defs.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Report to the enclave that `target_info` names (NULL: to no one). Every pointer that is not
   NULL must lie in the enclave. */
sgx_status_t SGXAPI sgx_create_report(const sgx_target_info_t *target_info,
                                      const sgx_report_data_t *report_data, sgx_report_t *report);

/* This enclave's report, made once: who am I? */
const sgx_report_t *sgx_self_report(void);

/* The TARGETINFO under which others report to this enclave. */
sgx_status_t SGXAPI sgx_self_target(sgx_target_info_t *target_info);

/* SGX_SUCCESS when this machine made `report` for this enclave, else SGX_ERROR_MAC_MISMATCH. */
sgx_status_t SGXAPI sgx_verify_report(const sgx_report_t *report);

/* Derive a key. On failure `key` holds random bytes, never an old key. */
sgx_status_t SGXAPI sgx_get_key(const sgx_key_request_t *key_request, sgx_key_128bit_t *key);

#ifdef __cplusplus
}
#endif

#endif
