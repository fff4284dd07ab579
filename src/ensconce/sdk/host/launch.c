/* SPDX-License-Identifier: Apache-2.0 */
/* libsgx_launch: launch control is flexible here, so there is no list of allowed signers. */
#include "sgx_uae_launch.h"

#define ANSWER __attribute__((visibility("default")))
#pragma GCC diagnostic ignored "-Wunused-parameter"

ANSWER sgx_status_t sgx_get_whitelist_size(uint32_t *p_whitelist_size) {
    return SGX_ERROR_FEATURE_NOT_SUPPORTED;
}

ANSWER sgx_status_t sgx_get_whitelist(uint8_t *p_whitelist, uint32_t whitelist_size) {
    return SGX_ERROR_FEATURE_NOT_SUPPORTED;
}

ANSWER sgx_status_t sgx_register_wl_cert_chain(uint8_t *p_wl_cert_chain,
                                               uint32_t wl_cert_chain_size) {
    return SGX_ERROR_FEATURE_NOT_SUPPORTED;
}
