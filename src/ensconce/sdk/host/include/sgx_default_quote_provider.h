/* SPDX-License-Identifier: Apache-2.0 */
/* The provider of certificates and collateral: as much as programs that make quotes say to it. Its
 * functions that fetch are not here; `ensconce platform collateral` gives the collateral. */
#ifndef SGX_DEFAULT_QUOTE_PROVIDER_H
#define SGX_DEFAULT_QUOTE_PROVIDER_H

#include "sgx_defs.h"
#include "sgx_ql_lib_common.h"

#ifdef __cplusplus
#define SGX_QPL_DEFAULT_(value) = value
extern "C" {
#else
#define SGX_QPL_DEFAULT_(value)
#endif

quote3_error_t SGXAPI sgx_ql_set_logging_callback(
    sgx_ql_logging_callback_t logger,
    sgx_ql_log_level_t loglevel SGX_QPL_DEFAULT_(SGX_QL_LOG_ERROR));
quote3_error_t SGXAPI sgx_qpl_clear_cache(uint32_t cache_type);
quote3_error_t SGXAPI sgx_qpl_global_init(void);
quote3_error_t SGXAPI sgx_qpl_global_cleanup(void);

#undef SGX_QPL_DEFAULT_

#ifdef __cplusplus
}
#endif

#endif
