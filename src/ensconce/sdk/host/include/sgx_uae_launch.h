/* SPDX-License-Identifier: Apache-2.0 */
/* Launch tokens, which flexible launch control does without: SGX_ERROR_FEATURE_NOT_SUPPORTED. */
#ifndef SGX_UAE_LAUNCH_H
#define SGX_UAE_LAUNCH_H

#include "sgx_urts.h"

#ifdef __cplusplus
extern "C" {
#endif

sgx_status_t SGXAPI sgx_get_whitelist_size(uint32_t *p_whitelist_size);
sgx_status_t SGXAPI sgx_get_whitelist(uint8_t *p_whitelist, uint32_t whitelist_size);
sgx_status_t SGXAPI sgx_register_wl_cert_chain(uint8_t *p_wl_cert_chain,
                                               uint32_t wl_cert_chain_size);

#ifdef __cplusplus
}
#endif

#endif
