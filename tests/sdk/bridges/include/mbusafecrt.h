/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include <stddef.h>
typedef int errno_t;
#ifdef __cplusplus
extern "C" {
#endif
errno_t memcpy_s(void *target, size_t room, const void *source, size_t size);
errno_t memcpy_verw_s(void *target, size_t room, const void *source, size_t size);
void *memset_verw(void *target, int value, size_t size);
#ifdef __cplusplus
}
#endif
