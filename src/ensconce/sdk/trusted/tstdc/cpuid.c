/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID by way of the host. */
#include "sgx_cpuid.h"

#include <stddef.h>

sgx_status_t sgx_oc_cpuidex(int cpuinfo[4], int leaf, int subleaf);

sgx_status_t sgx_cpuidex(int cpuinfo[4], int leaf, int subleaf)
{
    if (cpuinfo == NULL) return SGX_ERROR_INVALID_PARAMETER;
    return sgx_oc_cpuidex(cpuinfo, leaf, subleaf);
}

sgx_status_t sgx_cpuid(int cpuinfo[4], int leaf)
{
    return sgx_cpuidex(cpuinfo, leaf, 0);
}
