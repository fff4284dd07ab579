/* SPDX-License-Identifier: Apache-2.0 */
/* libsgx_dcap_ql: there is no quoting enclave to ask yet. */
#include "sgx_dcap_ql_wrapper.h"

#define ANSWER __attribute__((visibility("default")))
#pragma GCC diagnostic ignored "-Wunused-parameter"

ANSWER quote3_error_t sgx_qe_set_enclave_load_policy(sgx_ql_request_policy_t policy) {
    return SGX_QL_INTERFACE_UNAVAILABLE;
}

ANSWER quote3_error_t sgx_qe_get_target_info(sgx_target_info_t *p_qe_target_info) {
    return SGX_QL_INTERFACE_UNAVAILABLE;
}

ANSWER quote3_error_t sgx_qe_get_quote_size(uint32_t *p_quote_size) {
    return SGX_QL_INTERFACE_UNAVAILABLE;
}

ANSWER quote3_error_t sgx_qe_get_quote(const sgx_report_t *p_app_report, uint32_t quote_size,
                                       uint8_t *p_quote) {
    return SGX_QL_INTERFACE_UNAVAILABLE;
}

ANSWER quote3_error_t sgx_qe_cleanup_by_policy(void) {
    return SGX_QL_INTERFACE_UNAVAILABLE;
}

ANSWER quote3_error_t sgx_ql_set_path(sgx_ql_path_type_t path_type, const char *p_path) {
    return SGX_QL_INTERFACE_UNAVAILABLE;
}
