/* SPDX-License-Identifier: Apache-2.0 */
/* Places for secrets that cache lines do not expose (INTEL-SA-00219). */
#include "sgx_secure_align_api.h"

#include <stdlib.h>
#include <string.h>

#define LINE 64
#define LEAST_BOUNDARY 8

/* What is asked for, and the answer: how far behind a boundary, which is a power of two and more
   than it, the structure starts. */
struct place {
    size_t size, alignment, boundary, lead;
};

/* How many bytes from this position of a line on are not exposed. */
static size_t unexposed(size_t position)
{
    if (position == 0) return 0;
    if (position < 4) return 4 - position;
    return position < 8 ? 0 : LINE - position;
}

static int is_safe(size_t lead, const align_req_t *secrets, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (secrets[i].len > unexposed((secrets[i].offset % LINE + lead) % LINE)) return 0;
    return 1;
}

/* All in the structure, and none of a byte of another. */
static int are_fields(size_t size, const align_req_t *secrets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const align_req_t *a = &secrets[i];
        if (a->offset > size || a->len > size - a->offset) return 0;
        for (size_t j = 0; j < i; j++) {
            const align_req_t *b = &secrets[j];
            if (a->len != 0 && b->len != 0 && a->offset < b->offset + b->len &&
                b->offset < a->offset + a->len)
                return 0;
        }
    }
    return 1;
}

static int find(struct place *place, const align_req_t *secrets, size_t count)
{
    align_req_t all = {0, place->size};
    if (place->size == 0 || place->alignment == 0 ||
        (place->alignment & (place->alignment - 1)) != 0 || (secrets == NULL) != (count == 0))
        return -1;
    if (secrets == NULL)
        secrets = &all, count = 1;
    else if (!are_fields(place->size, secrets, count))
        return -1;
    for (place->lead = 0; !is_safe(place->lead, secrets, count);) {
        if (place->alignment >= LINE) return -1;
        place->lead += place->alignment;
        if (place->lead >= LINE) return -1;
    }
    place->boundary = LEAST_BOUNDARY;
    while (place->boundary < LINE && place->boundary < place->size + place->lead)
        place->boundary *= 2;
    if (place->boundary < place->alignment) place->boundary = place->alignment;
    return 0;
}

/* The place from an address on; 0 when it is beyond all addresses. */
static uintptr_t start_from(uintptr_t address, const struct place *place)
{
    uintptr_t start;
    uintptr_t skipped = (place->lead - address) & (place->boundary - 1);
    return __builtin_add_overflow(address, skipped, &start) ? 0 : start;
}

void *sgx_aligned_malloc(size_t size, size_t alignment, align_req_t *data, size_t count)
{
    struct place place = {.size = size, .alignment = alignment};
    size_t need;
    if (find(&place, data, count) != 0 ||
        __builtin_add_overflow(size, sizeof(void *), &need) ||
        __builtin_add_overflow(need, place.boundary, &need))
        return NULL;
    void *raw = malloc(need);
    if (raw == NULL) return NULL;
    char *start = (char *)start_from((uintptr_t)raw + sizeof raw, &place);
    memcpy(start - sizeof raw, &raw, sizeof raw);
    return start;
}

void sgx_aligned_free(void *ptr)
{
    void *raw = NULL;
    if (ptr != NULL) memcpy(&raw, (char *)ptr - sizeof raw, sizeof raw);
    free(raw);
}

void *sgx_get_aligned_ptr(void *raw, size_t raw_size, size_t allocate_size, size_t alignment,
                          align_req_t *data, size_t count)
{
    struct place place = {.size = allocate_size, .alignment = alignment};
    uintptr_t end, used;
    if (raw == NULL || raw_size == 0 || __builtin_add_overflow((uintptr_t)raw, raw_size, &end) ||
        find(&place, data, count) != 0)
        return NULL;
    uintptr_t start = start_from((uintptr_t)raw, &place);
    if (start == 0 || __builtin_add_overflow(start, allocate_size, &used) || used > end)
        return NULL;
    return (void *)start;
}
