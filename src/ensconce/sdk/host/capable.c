/* SPDX-License-Identifier: Apache-2.0 */
/* libsgx_capable: the emulated processor runs where user code may write FS and GS. */
#include "sgx_capable.h"

#include <stddef.h>
#include <sys/auxv.h>

#define ANSWER __attribute__((visibility("default")))

enum { FSGSBASE = 2 }; /* AT_HWCAP2 */

static int is_capable(void) {
    return (getauxval(AT_HWCAP2) & FSGSBASE) != 0;
}

ANSWER sgx_status_t sgx_is_capable(int *sgx_capable) {
    if (!sgx_capable)
        return SGX_ERROR_INVALID_PARAMETER;
    *sgx_capable = is_capable();
    return SGX_SUCCESS;
}

ANSWER sgx_status_t sgx_cap_get_status(sgx_device_status_t *sgx_device_status) {
    if (!sgx_device_status)
        return SGX_ERROR_INVALID_PARAMETER;
    *sgx_device_status = is_capable() ? SGX_ENABLED : SGX_DISABLED_UNSUPPORTED_CPU;
    return SGX_SUCCESS;
}

ANSWER sgx_status_t sgx_cap_enable_device(sgx_device_status_t *sgx_device_status) {
    return sgx_cap_get_status(sgx_device_status);
}
