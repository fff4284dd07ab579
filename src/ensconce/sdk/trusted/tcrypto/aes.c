/* SPDX-License-Identifier: Apache-2.0 */
/* AES-GCM, whole and in parts, and AES-CTR. */
#include <openssl/aead.h>
#include <openssl/aes.h>
#include <openssl/cipher.h>
#include <string.h>

#include "sgx_trts.h"
#include "tcrypto.h"

typedef unsigned __int128 counter_t;

/* Bytes of a caller's. */
struct text {
    const uint8_t *bytes;
    uint32_t size;
};

static const EVP_AEAD *algorithm(uint32_t key_size)
{
    if (key_size == SGX_AESGCM_KEY_SIZE) return EVP_aead_aes_128_gcm();
    return key_size == SGX_AESGCM_KEY256_SIZE ? EVP_aead_aes_256_gcm() : NULL;
}

static int are_bad(struct text key, struct text text, const uint8_t *dest, struct text nonce,
                   struct text additional, const void *tag)
{
    return algorithm(key.size) == NULL || key.bytes == NULL || tag == NULL ||
           nonce.bytes == NULL || nonce.size != SGX_AESGCM_IV_SIZE ||
           is_bad(text.bytes, text.size) || is_bad(dest, text.size) ||
           is_bad(additional.bytes, additional.size) ||
           (text.bytes == NULL && additional.bytes == NULL);
}

static sgx_status_t gcm_encrypt(struct text key, struct text text, uint8_t *dest,
                                struct text nonce, struct text additional, uint8_t *tag)
{
    EVP_AEAD_CTX context;
    size_t size;
    if (are_bad(key, text, dest, nonce, additional, tag)) return SGX_ERROR_INVALID_PARAMETER;
    if (!EVP_AEAD_CTX_init(&context, algorithm(key.size), key.bytes, key.size, SGX_AESGCM_MAC_SIZE,
                           NULL))
        return SGX_ERROR_OUT_OF_MEMORY;
    int ok = EVP_AEAD_CTX_seal_scatter(&context, dest, tag, &size, SGX_AESGCM_MAC_SIZE,
                                       nonce.bytes, nonce.size, text.bytes, text.size, NULL, 0,
                                       additional.bytes, additional.size);
    EVP_AEAD_CTX_cleanup(&context);
    OPENSSL_cleanse(&context, sizeof context);
    return ok ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

static sgx_status_t gcm_decrypt(struct text key, struct text text, uint8_t *dest,
                                struct text nonce, struct text additional, const uint8_t *tag)
{
    EVP_AEAD_CTX context;
    if (are_bad(key, text, dest, nonce, additional, tag)) return SGX_ERROR_INVALID_PARAMETER;
    if (!EVP_AEAD_CTX_init(&context, algorithm(key.size), key.bytes, key.size, SGX_AESGCM_MAC_SIZE,
                           NULL))
        return SGX_ERROR_OUT_OF_MEMORY;
    int ok = EVP_AEAD_CTX_open_gather(&context, dest, nonce.bytes, nonce.size, text.bytes,
                                      text.size, tag, SGX_AESGCM_MAC_SIZE, additional.bytes,
                                      additional.size);
    EVP_AEAD_CTX_cleanup(&context);
    OPENSSL_cleanse(&context, sizeof context);
    if (ok) return SGX_SUCCESS;
    if (text.size != 0) OPENSSL_cleanse(dest, text.size);
    return SGX_ERROR_MAC_MISMATCH;
}

sgx_status_t sgx_rijndael128GCM_encrypt(const sgx_aes_gcm_128bit_key_t *p_key,
                                        const uint8_t *p_src, uint32_t src_len, uint8_t *p_dst,
                                        const uint8_t *p_iv, uint32_t iv_len,
                                        const uint8_t *p_aad, uint32_t aad_len,
                                        sgx_aes_gcm_128bit_tag_t *p_out_mac)
{
    struct text key = {(const uint8_t *)p_key, sizeof *p_key};
    return gcm_encrypt(key, (struct text){p_src, src_len}, p_dst, (struct text){p_iv, iv_len},
                       (struct text){p_aad, aad_len}, (uint8_t *)p_out_mac);
}

sgx_status_t sgx_rijndael128GCM_decrypt(const sgx_aes_gcm_128bit_key_t *p_key,
                                        const uint8_t *p_src, uint32_t src_len, uint8_t *p_dst,
                                        const uint8_t *p_iv, uint32_t iv_len,
                                        const uint8_t *p_aad, uint32_t aad_len,
                                        const sgx_aes_gcm_128bit_tag_t *p_in_mac)
{
    struct text key = {(const uint8_t *)p_key, sizeof *p_key};
    return gcm_decrypt(key, (struct text){p_src, src_len}, p_dst, (struct text){p_iv, iv_len},
                       (struct text){p_aad, aad_len}, (const uint8_t *)p_in_mac);
}

sgx_status_t sgx_aes_gcm_encrypt(const uint8_t *p_key, uint32_t key_len, const uint8_t *p_src,
                                 uint32_t src_len, uint8_t *p_dst, uint8_t *p_iv, uint32_t iv_len,
                                 const uint8_t *p_aad, uint32_t aad_len,
                                 sgx_aes_gcm_128bit_tag_t *p_out_mac)
{
    uint8_t nonce[SGX_AESGCM_IV_SIZE];
    if (p_iv == NULL || iv_len != sizeof nonce) return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = sgx_read_rand(nonce, sizeof nonce);
    if (status != SGX_SUCCESS) return status;
    status = gcm_encrypt((struct text){p_key, key_len}, (struct text){p_src, src_len}, p_dst,
                         (struct text){nonce, sizeof nonce}, (struct text){p_aad, aad_len},
                         (uint8_t *)p_out_mac);
    if (status == SGX_SUCCESS) memcpy(p_iv, nonce, sizeof nonce);
    return status;
}

sgx_status_t sgx_aes_gcm_decrypt(const uint8_t *p_key, uint32_t key_len, const uint8_t *p_src,
                                 uint32_t src_len, uint8_t *p_dst, const uint8_t *p_iv,
                                 uint32_t iv_len, const uint8_t *p_aad, uint32_t aad_len,
                                 const sgx_aes_gcm_128bit_tag_t *p_in_mac)
{
    return gcm_decrypt((struct text){p_key, key_len}, (struct text){p_src, src_len}, p_dst,
                       (struct text){p_iv, iv_len}, (struct text){p_aad, aad_len},
                       (const uint8_t *)p_in_mac);
}

sgx_status_t sgx_aes_gcm128_enc_init(const uint8_t *p_key, const uint8_t *p_iv, uint32_t iv_len,
                                     const uint8_t *p_aad, uint32_t aad_len,
                                     sgx_aes_state_handle_t *aes_gcm_state)
{
    int size;
    if (p_key == NULL || p_iv == NULL || iv_len != SGX_AESGCM_IV_SIZE || is_bad(p_aad, aad_len) ||
        aes_gcm_state == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    if (context == NULL) return SGX_ERROR_OUT_OF_MEMORY;
    if (!EVP_EncryptInit_ex(context, EVP_aes_128_gcm(), NULL, p_key, p_iv) ||
        (aad_len != 0 && !EVP_EncryptUpdate(context, NULL, &size, p_aad, (int)aad_len))) {
        EVP_CIPHER_CTX_free(context);
        return SGX_ERROR_OUT_OF_MEMORY;
    }
    *aes_gcm_state = context;
    return SGX_SUCCESS;
}

sgx_status_t sgx_aes_gcm128_enc_update(uint8_t *p_src, uint32_t src_len, uint8_t *p_dst,
                                       sgx_aes_state_handle_t aes_gcm_state)
{
    int size;
    if (aes_gcm_state == NULL || p_src == NULL || p_dst == NULL || src_len == 0 ||
        is_bad(p_src, src_len))
        return SGX_ERROR_INVALID_PARAMETER;
    return EVP_EncryptUpdate(aes_gcm_state, p_dst, &size, p_src, (int)src_len)
               ? SGX_SUCCESS
               : SGX_ERROR_UNEXPECTED;
}

/* The tag of all so far, from a copy: more may follow. */
sgx_status_t sgx_aes_gcm128_enc_get_mac(uint8_t *mac, sgx_aes_state_handle_t aes_gcm_state)
{
    int size;
    uint8_t nothing[EVP_MAX_BLOCK_LENGTH];
    if (mac == NULL || aes_gcm_state == NULL) return SGX_ERROR_INVALID_PARAMETER;
    EVP_CIPHER_CTX *copy = EVP_CIPHER_CTX_new();
    if (copy == NULL) return SGX_ERROR_OUT_OF_MEMORY;
    int ok = EVP_CIPHER_CTX_copy(copy, aes_gcm_state) &&
             EVP_EncryptFinal_ex(copy, nothing, &size) &&
             EVP_CIPHER_CTX_ctrl(copy, EVP_CTRL_AEAD_GET_TAG, SGX_AESGCM_MAC_SIZE, mac);
    EVP_CIPHER_CTX_free(copy);
    return ok ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_aes_gcm_close(sgx_aes_state_handle_t aes_gcm_state)
{
    if (aes_gcm_state == NULL) return SGX_ERROR_INVALID_PARAMETER;
    EVP_CIPHER_CTX_free(aes_gcm_state);
    return SGX_SUCCESS;
}

static counter_t load_counter(const uint8_t *bytes)
{
    counter_t value = 0;
    for (int i = 0; i < AES_BLOCK_SIZE; i++) value = value << 8 | bytes[i];
    return value;
}

static void store_counter(uint8_t *bytes, counter_t value)
{
    for (int i = AES_BLOCK_SIZE - 1; i >= 0; i--, value >>= 8) bytes[i] = (uint8_t)value;
}

/* Encrypt up to where the counter's last bits wrap, as often as they do. */
static int ctr_stream(EVP_CIPHER_CTX *context, const uint8_t *key, uint8_t *counter, counter_t mask,
                      const uint8_t *from, uint8_t *to, uint32_t size)
{
    while (size > 0) {
        counter_t value = load_counter(counter);
        counter_t room = mask - (value & mask); /* blocks after this one, before it wraps */
        counter_t blocks = ((counter_t)size + AES_BLOCK_SIZE - 1) / AES_BLOCK_SIZE;
        if (blocks > room) blocks = room + 1;
        uint32_t part = blocks * AES_BLOCK_SIZE < size ? (uint32_t)(blocks * AES_BLOCK_SIZE) : size;
        int stored;
        if (!EVP_EncryptInit_ex(context, EVP_aes_128_ctr(), NULL, key, counter) ||
            !EVP_EncryptUpdate(context, to, &stored, from, (int)part))
            return 0;
        store_counter(counter, (value & ~mask) | ((value + blocks) & mask));
        from += part, to += part, size -= part;
    }
    return 1;
}

sgx_status_t sgx_aes_ctr_encrypt(const sgx_aes_ctr_128bit_key_t *p_key, const uint8_t *p_src,
                                 const uint32_t src_len, uint8_t *p_ctr,
                                 const uint32_t ctr_inc_bits, uint8_t *p_dst)
{
    if (p_key == NULL || p_src == NULL || p_ctr == NULL || p_dst == NULL || src_len == 0 ||
        src_len >= INT_MAX || ctr_inc_bits == 0 || ctr_inc_bits > 128)
        return SGX_ERROR_INVALID_PARAMETER;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    if (context == NULL) return SGX_ERROR_OUT_OF_MEMORY;
    counter_t mask = ~(counter_t)0 >> (128 - ctr_inc_bits);
    int ok = ctr_stream(context, *p_key, p_ctr, mask, p_src, p_dst, src_len);
    EVP_CIPHER_CTX_free(context);
    return ok ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_aes_ctr_decrypt(const sgx_aes_ctr_128bit_key_t *p_key, const uint8_t *p_src,
                                 const uint32_t src_len, uint8_t *p_ctr,
                                 const uint32_t ctr_inc_bits, uint8_t *p_dst)
{
    return sgx_aes_ctr_encrypt(p_key, p_src, src_len, p_ctr, ctr_inc_bits, p_dst);
}
