/* SPDX-License-Identifier: Apache-2.0 */
/* First fit over a bitmap: the allocator above asks seldom, and for runs. */
#include "pages.h"

#define WORD 64

int pages_open(struct pages *pages, void *heap, size_t size)
{
    size_t all = size / PAGE_BYTES;
    size_t map_pages = (all / 8 + PAGE_BYTES) / PAGE_BYTES;
    *pages = (struct pages){0};
    if (all <= map_pages) return -1;
    pages->map = heap;
    pages->base = (unsigned char *)heap + map_pages * PAGE_BYTES;
    pages->count = all - map_pages;
    return 0;
}

static int is_used(const struct pages *pages, size_t page)
{
    return pages->map[page / WORD] >> page % WORD & 1;
}

/* Mark pages below the new top; words of the map get their first value when top reaches them. */
static void mark(struct pages *pages, size_t first, size_t count)
{
    for (size_t page = first; page < first + count; page++) {
        if (page >= pages->top && page % WORD == 0) pages->map[page / WORD] = 0;
        pages->map[page / WORD] |= 1ull << page % WORD;
    }
    if (first + count > pages->top) pages->top = first + count;
}

/* The first page of a free run below top (or reaching over it), or count when there is none. */
static size_t find(const struct pages *pages, size_t count)
{
    size_t run = 0;
    for (size_t page = pages->hint; page < pages->top; page++) {
        if (page % WORD == 0 && run == 0 && pages->map[page / WORD] == ~0ull &&
            page + WORD <= pages->top) {
            page += WORD - 1;
            continue;
        }
        run = is_used(pages, page) ? 0 : run + 1;
        if (run == count) return page + 1 - count;
    }
    size_t first = pages->top - run;
    return count <= pages->count - first ? first : pages->count;
}

void *pages_take(struct pages *pages, size_t count)
{
    if (count == 0 || count > pages->count) return NULL;
    size_t first = find(pages, count);
    if (first == pages->count) return NULL;
    mark(pages, first, count);
    if (first <= pages->hint) pages->hint = first + count;
    pages->used += count;
    if (pages->used > pages->peak) pages->peak = pages->used;
    return pages->base + first * PAGE_BYTES;
}

int pages_give(struct pages *pages, void *address, size_t count)
{
    size_t offset = (size_t)((unsigned char *)address - pages->base);
    size_t first = offset / PAGE_BYTES;
    if (offset % PAGE_BYTES != 0 || first >= pages->top || count > pages->top - first) return -1;
    for (size_t page = first; page < first + count; page++)
        if (!is_used(pages, page)) return -1;
    for (size_t page = first; page < first + count; page++)
        pages->map[page / WORD] &= ~(1ull << page % WORD);
    pages->used -= count;
    if (first < pages->hint) pages->hint = first;
    while (pages->top > 0 && !is_used(pages, pages->top - 1)) pages->top--;
    if (pages->hint > pages->top) pages->hint = pages->top;
    return 0;
}
