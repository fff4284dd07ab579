/* SPDX-License-Identifier: Apache-2.0 */
/* libsgx_quote_ex: no quoting service is there to ask yet. */
#include "sgx_uae_quote_ex.h"

#define ANSWER __attribute__((visibility("default")))
#pragma GCC diagnostic ignored "-Wunused-parameter"

ANSWER sgx_status_t sgx_select_att_key_id(const uint8_t *p_att_key_id_list,
                                          uint32_t att_key_id_list_size,
                                          sgx_att_key_id_t *p_att_key_id) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}

ANSWER sgx_status_t sgx_init_quote_ex(const sgx_att_key_id_t *p_att_key_id,
                                      sgx_target_info_t *p_qe_target_info,
                                      size_t *p_pub_key_id_size, uint8_t *p_pub_key_id) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}

ANSWER sgx_status_t sgx_get_quote_size_ex(const sgx_att_key_id_t *p_att_key_id,
                                          uint32_t *p_quote_size) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}

ANSWER sgx_status_t sgx_get_quote_ex(const sgx_report_t *p_app_report,
                                     const sgx_att_key_id_t *p_att_key_id,
                                     sgx_qe_report_info_t *p_qe_report_info, uint8_t *p_quote,
                                     uint32_t quote_size) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}

ANSWER sgx_status_t sgx_get_supported_att_key_id_num(uint32_t *p_att_key_id_num) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}

ANSWER sgx_status_t sgx_get_supported_att_key_ids(sgx_att_key_id_ext_t *p_att_key_id_list,
                                                  uint32_t att_key_id_num) {
    return SGX_ERROR_SERVICE_UNAVAILABLE;
}
