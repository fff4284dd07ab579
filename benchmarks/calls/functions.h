/* SPDX-License-Identifier: Apache-2.0 */
/* What is measured: inside the enclave and, the same text, outside. */
#include <stddef.h>
#include <stdint.h>

void nothing_(void) {}

int64_t add_(int64_t left, int64_t right) { return (int64_t)((uint64_t)left + (uint64_t)right); }

void take_(const uint8_t *bytes, size_t size)
{
    static volatile uint8_t seen;
    if (size != 0) seen = bytes[size - 1];
    (void)seen;
}
