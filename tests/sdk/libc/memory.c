/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memory_t.h"
#include "sgx_rsrv_mem_mngr.h"
#include "sgx_secure_align_api.h"
#include "sgx_trts.h"

static align_req_t *requests(const size_t *secrets, size_t count)
{
    return secrets == NULL ? NULL : (align_req_t *)secrets;
}

uint64_t aligned_malloc(size_t size, size_t alignment, size_t *secrets, size_t count)
{
    void *place = sgx_aligned_malloc(size, alignment, requests(secrets, count), count / 2);
    if (place != NULL) memset(place, 0x5a, size);
    return (uint64_t)place;
}

void aligned_free(uint64_t address)
{
    sgx_aligned_free((void *)address);
}

uint64_t aligned_within(uint64_t room, size_t room_size, size_t size, size_t alignment,
                        size_t *secrets, size_t count)
{
    return (uint64_t)sgx_get_aligned_ptr((void *)room, room_size, size, alignment,
                                         requests(secrets, count), count / 2);
}

uint64_t room(size_t size)
{
    return (uint64_t)malloc(size);
}

static int failure;

void reserved_info(uint64_t *start, size_t *size)
{
    void *address;
    sgx_get_rsrv_mem_info(&address, size);
    *start = (uint64_t)address;
}

uint64_t reserve_at(uint64_t address, size_t size)
{
    errno = 0;
    void *pages = sgx_alloc_rsrv_mem_ex((void *)address, size);
    failure = errno;
    return (uint64_t)pages;
}

uint64_t reserve(size_t size)
{
    errno = 0;
    void *pages = sgx_alloc_rsrv_mem(size);
    failure = errno;
    return (uint64_t)pages;
}

int release(uint64_t address, size_t size)
{
    errno = 0;
    int status = sgx_free_rsrv_mem((void *)address, size);
    failure = errno;
    return status;
}

uint32_t protect(uint64_t address, size_t size, int rights)
{
    return sgx_tprotect_rsrv_mem((void *)address, size, rights);
}

int last_errno(void)
{
    return failure;
}

int is_zero(uint64_t address, size_t size)
{
    const char *at = (const char *)address;
    while (size-- > 0)
        if (at[size] != 0) return 0;
    return 1;
}

void fill(uint64_t address, size_t size)
{
    memset((void *)address, 0xff, size);
}

/* lea 1(%rdi), %eax; ret */
int run_there(uint64_t address, int value)
{
    static const unsigned char code[] = {0x8d, 0x47, 0x01, 0xc3};
    memcpy((void *)address, code, sizeof code);
    return ((int (*)(int))address)(value);
}

int has_protection_keys(void)
{
    uint32_t value = 7;
    return sgx_rdpkru(NULL) || sgx_rdpkru(&value) || sgx_wrpkru(0) || value != 7;
}

int has_fips(void)
{
    return sgx_get_ossl_fips_sym("OSSL_provider_init") != NULL;
}
