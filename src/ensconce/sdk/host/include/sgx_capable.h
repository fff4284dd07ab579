/* SPDX-License-Identifier: Apache-2.0 */
/* Whether enclaves can run here; on the emulated processor that is up to the host's FSGSBASE. */
#ifndef SGX_CAPABLE_H
#define SGX_CAPABLE_H

#include "sgx_defs.h"
#include "sgx_error.h"

typedef enum _sgx_device_status_t {
    SGX_ENABLED = 0,
    SGX_DISABLED_REBOOT_REQUIRED = 1,
    SGX_DISABLED_LEGACY_OS = 2,
    SGX_DISABLED = 3,
    SGX_DISABLED_SCI_AVAILABLE = 4,
    SGX_DISABLED_MANUAL_ENABLE = 5,
    SGX_DISABLED_HYPERV_ENABLED = 6,
    SGX_DISABLED_UNSUPPORTED_CPU = 7,
} sgx_device_status_t;

#ifdef __cplusplus
extern "C" {
#endif

/* Store 1 or 0. */
sgx_status_t SGXAPI sgx_is_capable(int *sgx_capable);
/* There is nothing to enable: stores the status, as sgx_cap_get_status does. */
sgx_status_t SGXAPI sgx_cap_enable_device(sgx_device_status_t *sgx_device_status);
sgx_status_t SGXAPI sgx_cap_get_status(sgx_device_status_t *sgx_device_status);

#ifdef __cplusplus
}
#endif

#endif
