/* SPDX-License-Identifier: Apache-2.0 */
/* Copies that know the size of their destination, and copies that may leave the enclave. */
#ifndef MBUSAFECRT_H
#define MBUSAFECRT_H

#include <stddef.h>

#include "tee_string.h"

#ifdef __cplusplus
extern "C" {
#endif

/* 0, or EINVAL/ERANGE with a zeroed destination when `count` bytes do not fit. */
errno_t memcpy_s(void *dest, size_t size, const void *src, size_t count);
errno_t memmove_s(void *dest, size_t size, const void *src, size_t count);

/* The same for destinations outside the enclave; see tee_string.h. */
errno_t memcpy_verw_s(void *dest, size_t size, const void *src, size_t count);
errno_t memmove_verw_s(void *dest, size_t size, const void *src, size_t count);

#ifdef __cplusplus
}
#endif

#endif
