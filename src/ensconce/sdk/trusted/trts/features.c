/* SPDX-License-Identifier: Apache-2.0 */
/* What an enclave may have or lack. */
#include "sgx_attributes.h"
#include "sgx_trts.h"
#include "trts.h"

static int has_protection_keys(void)
{
    return (tee_xfrm & SGX_XFRM_PKRU) != 0;
}

int sgx_rdpkru(uint32_t *val)
{
    uint32_t high;
    if (val == NULL || !has_protection_keys()) return 0;
    __asm__ __volatile__("rdpkru" : "=a"(*val), "=d"(high) : "c"(0));
    return 1;
}

int sgx_wrpkru(uint32_t val)
{
    if (!has_protection_keys()) return 0;
    __asm__ __volatile__("wrpkru" ::"a"(val), "c"(0), "d"(0) : "memory");
    return 1;
}

void *sgx_get_ossl_fips_sym(const char *symbol)
{
    (void)symbol;
    return NULL;
}
