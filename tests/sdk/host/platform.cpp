/* SPDX-License-Identifier: Apache-2.0 */
/* Every function of the platform's libraries answers, and says what it can't do; in C++. */
#include <cstdio>

#include "sgx_capable.h"
#include "sgx_dcap_ql_wrapper.h"
#include "sgx_default_quote_provider.h"
#include "sgx_uae_service.h"

static_assert(sizeof(sgx_quote_t) == 436, "sgx_quote_t");
static_assert(sizeof(sgx_att_key_id_ext_t) == 256, "sgx_att_key_id_ext_t");
static_assert(sizeof(sgx_kss_config_t) == 66 && alignof(sgx_kss_config_t) == 1, "may be anywhere");

int main()
{
    const unsigned unavailable = SGX_ERROR_SERVICE_UNAVAILABLE;
    const unsigned bad = SGX_ERROR_INVALID_PARAMETER, bad_for_dcap = SGX_QL_ERROR_INVALID_PARAMETER;
    uint32_t size = 0;
    int capable = -1, wrong = 0;
    wrong += sgx_init_quote(nullptr, nullptr) != unavailable;
    wrong += sgx_calc_quote_size(nullptr, 0, &size) != unavailable;
    wrong += sgx_get_quote_size(nullptr, &size) != unavailable;
    wrong += sgx_get_quote(nullptr, SGX_LINKABLE_SIGNATURE, nullptr, nullptr, nullptr, 0, nullptr,
                           nullptr, 0) != unavailable;
    wrong += sgx_get_extended_epid_group_id(&size) != unavailable;
    wrong += sgx_report_attestation_status(nullptr, 0, nullptr) != unavailable;
    wrong += sgx_check_update_status(nullptr, nullptr, 0, &size) != unavailable;
    wrong += sgx_select_att_key_id(nullptr, 0, nullptr) != bad;
    wrong += sgx_init_quote_ex(nullptr, nullptr, nullptr, nullptr) != bad;
    wrong += sgx_get_quote_size_ex(nullptr, &size) != bad;
    wrong += sgx_get_quote_ex(nullptr, nullptr, nullptr, nullptr, 0) != bad;
    wrong += sgx_get_supported_att_key_id_num(nullptr) != bad;
    wrong += sgx_get_supported_att_key_ids(nullptr, 0) != bad;
    wrong += sgx_get_whitelist_size(&size) != SGX_ERROR_FEATURE_NOT_SUPPORTED;
    wrong += sgx_get_whitelist(nullptr, 0) != SGX_ERROR_FEATURE_NOT_SUPPORTED;
    wrong += sgx_register_wl_cert_chain(nullptr, 0) != SGX_ERROR_FEATURE_NOT_SUPPORTED;
    wrong += sgx_qe_set_enclave_load_policy(SGX_QL_DEFAULT) != SGX_QL_SUCCESS;
    wrong += sgx_qe_get_target_info(nullptr) != bad_for_dcap;
    wrong += sgx_qe_get_quote_size(nullptr) != bad_for_dcap;
    wrong += sgx_qe_get_quote(nullptr, 0, nullptr) != bad_for_dcap;
    wrong += sgx_qe_cleanup_by_policy() != SGX_QL_SUCCESS;
    wrong += sgx_ql_set_path(SGX_QL_QE3_PATH, "") != bad_for_dcap;
    wrong += sgx_ql_set_trace_callback(nullptr, SGX_QL_LOG_ERROR) != SGX_QL_SUCCESS;
    wrong += sgx_ql_set_logging_callback(nullptr) != SGX_QL_SUCCESS;
    wrong += sgx_qpl_clear_cache(7) != SGX_QL_SUCCESS;
    wrong += sgx_qpl_clear_cache(8) != bad_for_dcap;
    wrong += sgx_qpl_global_init() != SGX_QL_SUCCESS;
    wrong += sgx_qpl_global_cleanup() != SGX_QL_SUCCESS;
    sgx_device_status_t status = SGX_DISABLED;
    wrong += sgx_is_capable(&capable) != SGX_SUCCESS || capable != 1;
    wrong += sgx_cap_get_status(&status) != SGX_SUCCESS || status != SGX_ENABLED;
    wrong += sgx_cap_enable_device(nullptr) != SGX_ERROR_INVALID_PARAMETER;
    wrong += sgx_create_encrypted_enclave("", 0, nullptr, nullptr, nullptr, nullptr, nullptr) !=
             SGX_ERROR_FEATURE_NOT_SUPPORTED;
    std::printf("%d wrong\n", wrong);
    return wrong != 0;
}
