/* SPDX-License-Identifier: Apache-2.0 */
/* libsgx_epid: there is no EPID service any more, neither here nor anywhere. */
#include "sgx_uae_epid.h"

#define ANSWER __attribute__((visibility("default")))
#pragma GCC diagnostic ignored "-Wunused-parameter"

ANSWER sgx_status_t sgx_init_quote(sgx_target_info_t *p_target_info, sgx_epid_group_id_t *p_gid) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}

ANSWER sgx_status_t sgx_calc_quote_size(const uint8_t *p_sig_rl, uint32_t sig_rl_size,
                                        uint32_t *p_quote_size) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}

ANSWER sgx_status_t sgx_get_quote_size(const uint8_t *p_sig_rl, uint32_t *p_quote_size) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}

ANSWER sgx_status_t sgx_get_quote(const sgx_report_t *p_report, sgx_quote_sign_type_t quote_type,
                                  const sgx_spid_t *p_spid, const sgx_quote_nonce_t *p_nonce,
                                  const uint8_t *p_sig_rl, uint32_t sig_rl_size,
                                  sgx_report_t *p_qe_report, sgx_quote_t *p_quote,
                                  uint32_t quote_size) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}

ANSWER sgx_status_t sgx_get_extended_epid_group_id(uint32_t *p_extended_epid_group_id) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}

ANSWER sgx_status_t sgx_report_attestation_status(const sgx_platform_info_t *p_platform_info,
                                                  int attestation_status,
                                                  sgx_update_info_bit_t *p_update_info) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}

ANSWER sgx_status_t sgx_check_update_status(const sgx_platform_info_t *p_platform_info,
                                            sgx_update_info_bit_t *p_update_info, uint32_t config,
                                            uint32_t *p_status) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}
