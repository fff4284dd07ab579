/* SPDX-License-Identifier: Apache-2.0 */
/* Local attestation's instruction, EREPORT, and the check of what it makes. */
#include <string.h>

#include "mbusafecrt.h"
#include "sgx_spinlock.h"
#include "sgx_tcrypto.h"
#include "sgx_trts.h"
#include "sgx_utils.h"
#include "trts.h"

sgx_status_t sgx_create_report(const sgx_target_info_t *target_info,
                               const sgx_report_data_t *report_data, sgx_report_t *report)
{
    _Alignas(512) sgx_target_info_t target = {0};
    _Alignas(128) sgx_report_data_t data = {0};
    _Alignas(512) sgx_report_t made;
    if (report == NULL || !sgx_is_within_enclave(report, sizeof *report) ||
        (target_info != NULL && !sgx_is_within_enclave(target_info, sizeof target)) ||
        (report_data != NULL && !sgx_is_within_enclave(report_data, sizeof data)))
        return SGX_ERROR_INVALID_PARAMETER;
    if (target_info != NULL) target = *target_info;
    if (report_data != NULL) data = *report_data;
    if (tee_ereport(&target, &data, &made) != 0) return SGX_ERROR_UNEXPECTED;
    *report = made;
    return SGX_SUCCESS;
}

const sgx_report_t *sgx_self_report(void)
{
    static sgx_report_t own;
    static sgx_spinlock_t lock = SGX_SPINLOCK_INITIALIZER;
    static int made;
    if (!__atomic_load_n(&made, __ATOMIC_ACQUIRE)) {
        sgx_spin_lock(&lock);
        if (!made && sgx_create_report(NULL, NULL, &own) == SGX_SUCCESS)
            __atomic_store_n(&made, 1, __ATOMIC_RELEASE);
        sgx_spin_unlock(&lock);
    }
    return &own;
}

sgx_status_t sgx_self_target(sgx_target_info_t *target_info)
{
    if (target_info == NULL || !sgx_is_within_enclave(target_info, sizeof *target_info))
        return SGX_ERROR_INVALID_PARAMETER;
    const sgx_report_body_t *body = &sgx_self_report()->body;
    memset(target_info, 0, sizeof *target_info);
    target_info->mr_enclave = body->mr_enclave;
    target_info->attributes = body->attributes;
    target_info->config_svn = body->config_svn;
    target_info->misc_select = body->misc_select;
    memcpy(target_info->config_id, body->config_id, sizeof body->config_id);
    return SGX_SUCCESS;
}

sgx_status_t sgx_verify_report(const sgx_report_t *report)
{
    if (report == NULL || !sgx_is_within_enclave(report, sizeof *report))
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_key_request_t request = {.key_name = SGX_KEYSELECT_REPORT, .key_id = report->key_id};
    sgx_key_128bit_t key;
    sgx_cmac_128bit_tag_t mac;
    sgx_status_t status = sgx_get_key(&request, &key);
    if (status != SGX_SUCCESS) return status;
    status = sgx_rijndael128_cmac_msg(&key, (const uint8_t *)&report->body, sizeof report->body,
                                      &mac);
    memset_s(&key, sizeof key, 0, sizeof key);
    if (status != SGX_SUCCESS) return SGX_ERROR_UNEXPECTED;
    return consttime_memequal(mac, report->mac, sizeof mac) ? SGX_SUCCESS : SGX_ERROR_MAC_MISMATCH;
}
