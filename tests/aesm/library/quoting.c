/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the vendor's quoting library: the same functions, no SGX. A quote here is the
   REPORT's body and a tail; what the tests turn are the variables. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { OK = 0, PARAMETER = 0xe002, NOT_INITIALIZED = 0xe00f, INVALID_REPORT = 0xe015 };
enum { KEY = 158, EXTENDED_KEY = 256, TARGET = 512, HASH = 32, BODY = 384, REPORT = 432 };

uint32_t quote_size = 1000;
int init_fails, quote_fails, policy = -1, inits;
static bool ready;

static void fill_key(uint8_t *key)
{
    static const uint8_t signer[32] = {
        0x8c, 0x4f, 0x57, 0x75, 0xd7, 0x96, 0x50, 0x3e, 0x96, 0x13, 0x7f, 0x77, 0xc6, 0x8a, 0x82, 0x9a,
        0x00, 0x56, 0xac, 0x8d, 0xed, 0x70, 0x14, 0x0b, 0x08, 0x1b, 0x09, 0x44, 0x90, 0xc5, 0x7b, 0xff};
    memset(key, 0, KEY);
    key[4] = sizeof signer;
    memcpy(key + 6, signer, sizeof signer);
    key[54] = 1;  /* product */
    key[154] = 2; /* ECDSA P-256 */
}

static bool own(const uint8_t *key)
{
    uint8_t expected[KEY];
    fill_key(expected);
    return key && memcmp(key, expected, KEY) == 0;
}

int sgx_ql_set_enclave_load_policy(int wanted)
{
    policy = wanted;
    return OK;
}

int sgx_ql_get_keyid(uint8_t *key)
{
    memset(key, 0, EXTENDED_KEY);
    fill_key(key);
    return OK;
}

int sgx_ql_init_quote(uint8_t *key, uint8_t *target, bool refresh, size_t *hash_size, uint8_t *hash)
{
    if (!own(key) || refresh || !hash_size || *hash_size != HASH || !hash || !target)
        return PARAMETER;
    if (init_fails) return init_fails;
    inits++;
    memset(target, 0, TARGET);
    memset(target, 0x11, 32);
    memset(hash, 0x22, HASH);
    ready = true;
    return OK;
}

int sgx_ql_get_quote_size(uint8_t *key, uint32_t *size)
{
    if (!own(key) || !size) return PARAMETER;
    if (!ready) return NOT_INITIALIZED;
    *size = quote_size;
    return OK;
}

int sgx_ql_get_quote(const uint8_t *report, uint8_t *key, uint8_t *info, uint8_t *quote, uint32_t size)
{
    if (!own(key) || !report || !quote || size < quote_size) return PARAMETER;
    if (!ready) return NOT_INITIALIZED;
    if (quote_fails) {
        int status = quote_fails;
        quote_fails = 0; /* once */
        return status;
    }
    if (report[REPORT - 1] != 0x33) return INVALID_REPORT;
    memset(quote, 0x44, size);
    memcpy(quote, report, BODY);
    if (info) { /* nonce 16, target 512, then the REPORT to be made, whose data end its body */
        memset(info + 16 + TARGET, 0, REPORT);
        memcpy(info + 16 + TARGET + BODY - 64, info, 16);
    }
    return OK;
}
