/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
int sgx_is_within_enclave(const void *address, size_t size);
int sgx_is_outside_enclave(const void *address, size_t size);
#ifdef __cplusplus
}
#endif
