/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave that is quoted, and that checks who quoted it. */
#include "quoted_t.h"

#include "sgx_utils.h"

int report_for(const sgx_target_info_t *target, const sgx_report_data_t *data, sgx_report_t *report)
{
    return (int)sgx_create_report(target, data, report);
}

int who_am_i(sgx_target_info_t *target)
{
    return (int)sgx_self_target(target);
}

int is_from_here(const sgx_report_t *report)
{
    return (int)sgx_verify_report(report);
}
