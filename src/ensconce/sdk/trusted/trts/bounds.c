/* SPDX-License-Identifier: Apache-2.0 */
/* Which addresses are the enclave's. */
#include "sgx_trts.h"
#include "trts.h"

uintptr_t tee_base;
size_t tee_size;

/* The last byte of a range that may be empty; 0 when it wraps around. */
static int last_byte(uintptr_t start, size_t size, uintptr_t *last)
{
    *last = size == 0 ? start : start + (size - 1);
    return *last >= start;
}

int sgx_is_within_enclave(const void *addr, size_t size)
{
    uintptr_t start = (uintptr_t)addr, last;
    return last_byte(start, size, &last) && start >= tee_base && last <= tee_base + (tee_size - 1);
}

int sgx_is_outside_enclave(const void *addr, size_t size)
{
    uintptr_t start = (uintptr_t)addr, last;
    return last_byte(start, size, &last) && (last < tee_base || start > tee_base + (tee_size - 1));
}
