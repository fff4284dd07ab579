/* SPDX-License-Identifier: Apache-2.0 */
/* What string.h has in this development model beside the standard's functions. */
#ifndef TEE_STRING_H
#define TEE_STRING_H

#include <stddef.h>

#ifndef _ERRNO_T_DEFINED
#define _ERRNO_T_DEFINED
typedef int errno_t;
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Set `count` bytes; the compiler may not drop it. Too large a count fills the whole buffer and
   is answered with an error. */
errno_t memset_s(void *dest, size_t size, int value, size_t count);

/* For destinations outside the enclave: no store narrower than eight aligned bytes is made without
   clearing the CPU's fill buffers first (Processor MMIO Stale Data). */
void *memcpy_verw(void *dest, const void *src, size_t count);
void *memmove_verw(void *dest, const void *src, size_t count);
void *memset_verw(void *dest, int value, size_t count);
errno_t memset_verw_s(void *dest, size_t size, int value, size_t count);

/* memcpy, for code that has checked its pointers itself; here memcpy checks nothing either. */
void *memcpy_nochecks(void *dest, const void *src, size_t count);

/* 1 when the buffers are equal, in a time that depends on `count` alone. */
int consttime_memequal(const void *left, const void *right, size_t count);

#ifdef __cplusplus
}
#endif

#endif
