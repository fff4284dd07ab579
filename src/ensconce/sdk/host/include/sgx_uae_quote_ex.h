/* SPDX-License-Identifier: Apache-2.0 */
/* Quotes by the attestation keys that the platform has: here ECDSA's, and never EPID's. */
#ifndef SGX_UAE_QUOTE_EX_H
#define SGX_UAE_QUOTE_EX_H

#include "sgx_quote.h"
#include "sgx_urts.h"

#ifdef __cplusplus
extern "C" {
#endif

sgx_status_t SGXAPI sgx_select_att_key_id(const uint8_t *p_att_key_id_list,
                                          uint32_t att_key_id_list_size,
                                          sgx_att_key_id_t *p_att_key_id);
sgx_status_t SGXAPI sgx_init_quote_ex(const sgx_att_key_id_t *p_att_key_id,
                                      sgx_target_info_t *p_qe_target_info,
                                      size_t *p_pub_key_id_size, uint8_t *p_pub_key_id);
sgx_status_t SGXAPI sgx_get_quote_size_ex(const sgx_att_key_id_t *p_att_key_id,
                                          uint32_t *p_quote_size);
sgx_status_t SGXAPI sgx_get_quote_ex(const sgx_report_t *p_app_report,
                                     const sgx_att_key_id_t *p_att_key_id,
                                     sgx_qe_report_info_t *p_qe_report_info, uint8_t *p_quote,
                                     uint32_t quote_size);
sgx_status_t SGXAPI sgx_get_supported_att_key_id_num(uint32_t *p_att_key_id_num);
sgx_status_t SGXAPI sgx_get_supported_att_key_ids(sgx_att_key_id_ext_t *p_att_key_id_list,
                                                  uint32_t att_key_id_num);

#ifdef __cplusplus
}
#endif

#endif
