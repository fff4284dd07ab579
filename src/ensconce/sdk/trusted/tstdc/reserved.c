/* SPDX-License-Identifier: Apache-2.0 */
/* The reserved memory's pages, by a bitmap on the heap of those that are taken. */
#include "sgx_rsrv_mem_mngr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sgx_spinlock.h"
#include "trts.h"

extern const char __ehdr_start[] __attribute__((visibility("hidden")));

static uint8_t *taken; /* one bit each, made for the first allocation */
static sgx_spinlock_t lock = SGX_SPINLOCK_INITIALIZER;

static uintptr_t start(void)
{
    return (uintptr_t)__ehdr_start + g_global_data.reserved_offset;
}

static size_t page_count(void)
{
    return g_global_data.reserved_size / PAGE;
}

static int is_taken(size_t page)
{
    return taken[page / 8] >> page % 8 & 1;
}

static void mark(size_t first, size_t count, int as_taken)
{
    for (size_t page = first; page < first + count; page++) {
        uint8_t bit = (uint8_t)(1u << page % 8);
        taken[page / 8] = (uint8_t)(as_taken ? taken[page / 8] | bit : taken[page / 8] & ~bit);
    }
}

/* How many pages from `first` on, `count` at most, are alike. */
static size_t run(size_t first, size_t count, int as_taken)
{
    size_t length = 0;
    while (length < count && is_taken(first + length) == as_taken) length++;
    return length;
}

/* The pages of a range as numbers; 0, or -1 for a range that is not whole pages of this memory. */
static int pages_of(const void *address, size_t length, size_t *first, size_t *count)
{
    uintptr_t offset = (uintptr_t)address - start();
    *first = offset / PAGE;
    *count = length / PAGE;
    return offset % PAGE == 0 && length % PAGE == 0 && *count != 0 && *first < page_count() &&
                   *count <= page_count() - *first
               ? 0
               : -1;
}

/* The first page of a free run; page_count() when there is none. */
static size_t find(size_t count)
{
    for (size_t page = 0; count <= page_count() - page;) {
        size_t length = run(page, count, 0);
        if (length == count) return page;
        page += length + 1;
    }
    return page_count();
}

/* Take pages; NULL with why in errno. */
static void *take(size_t first, size_t count, int anywhere)
{
    if (taken == NULL) taken = calloc((page_count() + 7) / 8, 1);
    if (taken != NULL && anywhere) first = find(count);
    if (taken == NULL || first == page_count() || run(first, count, 0) != count) {
        errno = ENOMEM;
        return NULL;
    }
    mark(first, count, 1);
    return (void *)(start() + first * PAGE);
}

sgx_status_t sgx_get_rsrv_mem_info(void **start_addr, size_t *max_size)
{
    if (start_addr == NULL && max_size == NULL) return SGX_ERROR_INVALID_PARAMETER;
    if (start_addr != NULL) *start_addr = page_count() != 0 ? (void *)start() : NULL;
    if (max_size != NULL) *max_size = page_count() * PAGE;
    return SGX_SUCCESS;
}

void *sgx_alloc_rsrv_mem_ex(void *desired_addr, size_t length)
{
    size_t first, count;
    const void *place = desired_addr != NULL ? desired_addr : (const void *)start();
    if (page_count() == 0) {
        errno = EPERM;
        return NULL;
    }
    if (pages_of(place, length, &first, &count) != 0) {
        errno = EINVAL;
        return NULL;
    }
    sgx_spin_lock(&lock);
    void *pages = take(first, count, desired_addr == NULL);
    sgx_spin_unlock(&lock);
    /* Neither an earlier owner's bytes nor the host's: the pages are not measured. */
    return pages != NULL ? memset(pages, 0, length) : NULL;
}

void *sgx_alloc_rsrv_mem(size_t length)
{
    return sgx_alloc_rsrv_mem_ex(NULL, length);
}

int sgx_free_rsrv_mem(void *addr, size_t length)
{
    size_t first, count;
    int status = pages_of(addr, length, &first, &count);
    sgx_spin_lock(&lock);
    if (status == 0 && (taken == NULL || run(first, count, 1) != count)) status = -1;
    if (status == 0) mark(first, count, 0);
    sgx_spin_unlock(&lock);
    if (status != 0) errno = EINVAL;
    return status;
}

sgx_status_t sgx_tprotect_rsrv_mem(void *addr, size_t length, int prot)
{
    size_t first, count;
    if (pages_of(addr, length, &first, &count) != 0) return SGX_ERROR_INVALID_PARAMETER;
    if ((prot & ~(SGX_PROT_READ | SGX_PROT_WRITE | SGX_PROT_EXEC)) != 0 ||
        (prot != SGX_PROT_NONE && (prot & SGX_PROT_READ) == 0) ||
        ((prot & SGX_PROT_EXEC) != 0 && !g_global_data.reserved_executable))
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_spin_lock(&lock);
    int all = taken != NULL && run(first, count, 1) == count;
    sgx_spin_unlock(&lock);
    return all ? SGX_SUCCESS : SGX_ERROR_INVALID_PARAMETER;
}
