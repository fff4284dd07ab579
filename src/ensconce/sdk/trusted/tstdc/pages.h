/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of the enclave's heap. */
#ifndef TSTDC_PAGES_H
#define TSTDC_PAGES_H

#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096

/* A run of pages and a bitmap of those in use. The heap is not measured, so its bytes are the
   host's until written: the bitmap is valid up to `top` only, and nothing above is ever read. A
   large heap therefore costs only what is used of it. */
struct pages {
    uint64_t *map;       /* at the start of the heap */
    unsigned char *base; /* of page 0, behind the map */
    size_t count;
    size_t top;  /* pages from here on have never been used, or no longer are */
    size_t hint; /* no page below is free */
    size_t used;
    size_t peak; /* of used */
};

/* Take over `size` bytes at `heap`, a page's address. 0, or -1 when they hold no page. */
int pages_open(struct pages *pages, void *heap, size_t size);

/* `count` adjacent pages, not zeroed; NULL when there is no such run. */
void *pages_take(struct pages *pages, size_t count);

/* Give back pages. 0, or -1 when `address` and `count` are not pages in use. */
int pages_give(struct pages *pages, void *address, size_t count);

#endif
