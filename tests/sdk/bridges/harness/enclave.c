/* SPDX-License-Identifier: Apache-2.0 */
/* The trusted functions of the test enclave. */
#include "Enclave_t.h"

#include <string.h>

int grow_items; /* makes ecall_items claim more than it was given */
uint16_t *other_values; /* what ecall_items lets its first item point to */
void *last_seen;

int ecall_add(int a, int b) { return a + b; }

void ecall_naked(void) { last_seen = (void *)1; }

uint64_t ecall_sum(const uint32_t *values, size_t n)
{
    uint64_t sum = 0;
    last_seen = (void *)values;
    for (size_t i = 0; values != NULL && i < n; i++) sum += values[i];
    return sum;
}

void ecall_fill(uint8_t *bytes, uint32_t n)
{
    last_seen = bytes;
    for (uint32_t i = 0; bytes != NULL && i < n; i += 2) bytes[i] += (uint8_t)i + 1;
}

void ecall_grid(int grid[2][3])
{
    int kept = grid[0][2];
    grid[0][2] = grid[1][0];
    grid[1][0] = kept;
}

void ecall_product(uint16_t *data, int size, int count)
{
    (void)size;
    (void)count;
    last_seen = data;
}

int ecall_length(const char *text) { return text == NULL ? -1 : (int)strlen(text); }

void ecall_upper(char *text)
{
    for (; text != NULL && *text != '\0'; text++) {
        if (*text >= 'a' && *text <= 'z') *text -= 'a' - 'A';
        if (*text == '!') *text = '\0';
    }
}

int ecall_wide(wchar_t *text)
{
    text[0] = L'W';
    return (int)wcslen(text);
}

uint64_t ecall_raw(void *address) { return (uint64_t)(uintptr_t)address; }

void ecall_items(struct item *items, size_t n)
{
    for (size_t i = 0; items != NULL && i < n; i++) {
        for (uint32_t j = 0; items[i].values != NULL && j < items[i].n; j++) items[i].values[j]++;
        if (items[i].tag != NULL) memcpy(items[i].tag, "enclave", 8);
        items[i].n += (uint32_t)grow_items;
    }
    if (other_values != NULL) items[0].values = other_values;
}

uint64_t ecall_peek(struct item items[2]) { return (uint64_t)items[1].values[0]; }

void ecall_private(void) {}
