/* SPDX-License-Identifier: Apache-2.0 */
/* AES-128-CMAC and HMAC-SHA-256. */
#include <openssl/cipher.h>
#include <openssl/cmac.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "tcrypto.h"

sgx_status_t sgx_rijndael128_cmac_msg(const sgx_cmac_128bit_key_t *p_key, const uint8_t *p_src,
                                      uint32_t src_len, sgx_cmac_128bit_tag_t *p_mac)
{
    if (p_key == NULL || p_mac == NULL || p_src == NULL || is_bad(p_src, src_len))
        return SGX_ERROR_INVALID_PARAMETER;
    return AES_CMAC(*p_mac, *p_key, sizeof *p_key, p_src, src_len) ? SGX_SUCCESS
                                                                   : SGX_ERROR_OUT_OF_MEMORY;
}

sgx_status_t sgx_cmac128_init(const sgx_cmac_128bit_key_t *p_key,
                              sgx_cmac_state_handle_t *p_cmac_handle)
{
    if (p_key == NULL || p_cmac_handle == NULL) return SGX_ERROR_INVALID_PARAMETER;
    CMAC_CTX *context = CMAC_CTX_new();
    if (context == NULL) return SGX_ERROR_OUT_OF_MEMORY;
    if (!CMAC_Init(context, *p_key, sizeof *p_key, EVP_aes_128_cbc(), NULL)) {
        CMAC_CTX_free(context);
        return SGX_ERROR_OUT_OF_MEMORY;
    }
    *p_cmac_handle = context;
    return SGX_SUCCESS;
}

sgx_status_t sgx_cmac128_update(const uint8_t *p_src, uint32_t src_len,
                                sgx_cmac_state_handle_t cmac_handle)
{
    if (p_src == NULL || cmac_handle == NULL || is_bad(p_src, src_len))
        return SGX_ERROR_INVALID_PARAMETER;
    return CMAC_Update(cmac_handle, p_src, src_len) ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_cmac128_final(sgx_cmac_state_handle_t cmac_handle, sgx_cmac_128bit_tag_t *p_hash)
{
    size_t size;
    if (cmac_handle == NULL || p_hash == NULL) return SGX_ERROR_INVALID_PARAMETER;
    if (!CMAC_Final(cmac_handle, *p_hash, &size)) return SGX_ERROR_UNEXPECTED;
    return CMAC_Reset(cmac_handle) ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_cmac128_close(sgx_cmac_state_handle_t cmac_handle)
{
    if (cmac_handle == NULL) return SGX_ERROR_INVALID_PARAMETER;
    CMAC_CTX_free(cmac_handle);
    return SGX_SUCCESS;
}

/* HMAC (FIPS 198-1): the hash after one block of the key, inside and outside, and the hash now.
   AWS-LC's own brings along every hash that it knows. */
struct hmac {
    SHA256_CTX inner, outer, current;
};

static void hmac_start(struct hmac *hmac, const uint8_t *key, size_t size)
{
    uint8_t block[SHA256_CBLOCK] = {0};
    if (size > sizeof block)
        SHA256(key, size, block);
    else
        memcpy(block, key, size);
    for (size_t i = 0; i < sizeof block; i++) block[i] ^= 0x36;
    SHA256_Init(&hmac->inner);
    SHA256_Update(&hmac->inner, block, sizeof block);
    for (size_t i = 0; i < sizeof block; i++) block[i] ^= 0x36 ^ 0x5c;
    SHA256_Init(&hmac->outer);
    SHA256_Update(&hmac->outer, block, sizeof block);
    hmac->current = hmac->inner;
    OPENSSL_cleanse(block, sizeof block);
}

/* Store the tag's first bytes; then ready for another message under the same key. */
static void hmac_finish(struct hmac *hmac, uint8_t *tag, size_t size)
{
    uint8_t sum[SHA256_DIGEST_LENGTH];
    SHA256_CTX last = hmac->outer;
    SHA256_Final(sum, &hmac->current);
    SHA256_Update(&last, sum, sizeof sum);
    SHA256_Final(sum, &last);
    memcpy(tag, sum, size);
    hmac->current = hmac->inner;
    OPENSSL_cleanse(sum, sizeof sum);
    OPENSSL_cleanse(&last, sizeof last);
}

sgx_status_t sgx_hmac_sha256_msg(const unsigned char *p_src, int src_len,
                                 const unsigned char *p_key, int key_len, unsigned char *p_mac,
                                 int mac_len)
{
    struct hmac hmac;
    if (p_src == NULL || p_key == NULL || p_mac == NULL || src_len <= 0 || key_len <= 0 ||
        mac_len <= 0 || mac_len > SGX_HMAC256_MAC_SIZE)
        return SGX_ERROR_INVALID_PARAMETER;
    hmac_start(&hmac, p_key, (size_t)key_len);
    SHA256_Update(&hmac.current, p_src, (size_t)src_len);
    hmac_finish(&hmac, p_mac, (size_t)mac_len);
    OPENSSL_cleanse(&hmac, sizeof hmac);
    return SGX_SUCCESS;
}

sgx_status_t sgx_hmac256_init(const unsigned char *p_key, int key_len,
                              sgx_hmac_state_handle_t *p_hmac_handle)
{
    if (p_key == NULL || key_len <= 0 || p_hmac_handle == NULL) return SGX_ERROR_INVALID_PARAMETER;
    struct hmac *hmac = malloc(sizeof *hmac);
    if (hmac == NULL) return SGX_ERROR_OUT_OF_MEMORY;
    hmac_start(hmac, p_key, (size_t)key_len);
    *p_hmac_handle = hmac;
    return SGX_SUCCESS;
}

sgx_status_t sgx_hmac256_update(const uint8_t *p_src, int src_len,
                                sgx_hmac_state_handle_t hmac_handle)
{
    if (p_src == NULL || src_len <= 0 || hmac_handle == NULL) return SGX_ERROR_INVALID_PARAMETER;
    SHA256_Update(&((struct hmac *)hmac_handle)->current, p_src, (size_t)src_len);
    return SGX_SUCCESS;
}

sgx_status_t sgx_hmac256_final(unsigned char *p_hash, int hash_len,
                               sgx_hmac_state_handle_t hmac_handle)
{
    if (p_hash == NULL || hash_len <= 0 || hash_len > SGX_HMAC256_MAC_SIZE || hmac_handle == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    hmac_finish(hmac_handle, p_hash, (size_t)hash_len);
    return SGX_SUCCESS;
}

sgx_status_t sgx_hmac256_close(sgx_hmac_state_handle_t hmac_handle)
{
    if (hmac_handle == NULL) return SGX_ERROR_INVALID_PARAMETER;
    OPENSSL_cleanse(hmac_handle, sizeof(struct hmac));
    free(hmac_handle);
    return SGX_SUCCESS;
}
