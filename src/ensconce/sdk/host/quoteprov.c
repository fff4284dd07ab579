/* SPDX-License-Identifier: Apache-2.0 */
/* libdcap_quoteprov: quotes of the emulated platform bring their certificates, so nothing is
 * fetched, kept or logged here, and what programs say about that is only checked. */
#include "sgx_default_quote_provider.h"

#define ANSWER __attribute__((visibility("default")))

enum {
    CACHES = SGX_QPL_CACHE_CERTIFICATE | SGX_QPL_CACHE_QV_COLLATERAL | SGX_QPL_CACHE_MULTICERTS
};

ANSWER quote3_error_t sgx_ql_set_logging_callback(sgx_ql_logging_callback_t logger,
                                                  sgx_ql_log_level_t loglevel) {
    (void)logger, (void)loglevel;
    return SGX_QL_SUCCESS;
}

ANSWER quote3_error_t sgx_qpl_clear_cache(uint32_t cache_type) {
    return cache_type & ~(uint32_t)CACHES ? SGX_QL_ERROR_INVALID_PARAMETER : SGX_QL_SUCCESS;
}

ANSWER quote3_error_t sgx_qpl_global_init(void) {
    return SGX_QL_SUCCESS;
}

ANSWER quote3_error_t sgx_qpl_global_cleanup(void) {
    return SGX_QL_SUCCESS;
}
