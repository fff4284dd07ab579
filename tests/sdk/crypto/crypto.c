/* SPDX-License-Identifier: Apache-2.0 */
/* One ECALL per group of the crypto library's functions; each returns the first failure's status. */
#include "crypto_t.h"

#include <stdlib.h>
#include <string.h>

#include "sgx_ecp_types.h"
#include "sgx_tcrypto.h"

#pragma clang diagnostic ignored "-Wdeprecated-declarations"

#define TRY(call)                                        \
    do {                                                 \
        sgx_status_t status_ = (call);                   \
        if (status_ != SGX_SUCCESS) return (int)status_; \
    } while (0)

#define HASHED(bits)                                                                    \
    {                                                                                   \
        sgx_sha##bits##_hash_t made;                                                    \
        TRY(sgx_sha##bits##_msg(text, size, &made));                                    \
        memcpy(whole, made, sizeof made);                                               \
        TRY(sgx_sha##bits##_init(&state));                                              \
        TRY(sgx_sha##bits##_update(text, split, state));                                \
        TRY(sgx_sha##bits##_get_hash(state, &made)); /* changes nothing */              \
        TRY(sgx_sha##bits##_update(text + split, size - split, state));                 \
        TRY(sgx_sha##bits##_get_hash(state, &made));                                    \
        memcpy(parts, made, sizeof made);                                               \
        return sgx_sha##bits##_close(state);                                            \
    }

int hash(int bits, const uint8_t *text, uint32_t size, uint32_t split, uint8_t *whole,
         uint8_t *parts)
{
    sgx_sha_state_handle_t state;
    if (bits == 1) HASHED(1)
    if (bits == 256) HASHED(256)
    HASHED(384)
}

int gcm_encrypt(const uint8_t *key, uint32_t key_size, const uint8_t *nonce, const uint8_t *text,
                uint32_t size, const uint8_t *extra, uint32_t extra_size, uint8_t *result,
                uint8_t *tag)
{
    (void)key_size;
    return (int)sgx_rijndael128GCM_encrypt((const void *)key, text, size, result, nonce, 12, extra,
                                           extra_size, (void *)tag);
}

int gcm_decrypt(const uint8_t *key, uint32_t key_size, const uint8_t *nonce, const uint8_t *text,
                uint32_t size, const uint8_t *extra, uint32_t extra_size, uint8_t *result,
                const uint8_t *tag)
{
    if (key_size == 16)
        return (int)sgx_rijndael128GCM_decrypt((const void *)key, text, size, result, nonce, 12,
                                               extra, extra_size, (const void *)tag);
    return (int)sgx_aes_gcm_decrypt(key, key_size, text, size, result, nonce, 12, extra, extra_size,
                                    (const void *)tag);
}

int gcm_own_nonce(const uint8_t *key, uint32_t key_size, const uint8_t *text, uint32_t size,
                  uint8_t *result, uint8_t *nonce, uint8_t *tag)
{
    return (int)sgx_aes_gcm_encrypt(key, key_size, text, size, result, nonce, 12, NULL, 0,
                                    (void *)tag);
}

int gcm_parts(const uint8_t *key, const uint8_t *nonce, const uint8_t *text, uint32_t size,
              uint32_t split, const uint8_t *extra, uint32_t extra_size, uint8_t *result,
              uint8_t *early, uint8_t *tag)
{
    sgx_aes_state_handle_t state;
    TRY(sgx_aes_gcm128_enc_init(key, nonce, 12, extra, extra_size, &state));
    TRY(sgx_aes_gcm128_enc_update((uint8_t *)text, split, result, state));
    TRY(sgx_aes_gcm128_enc_get_mac(early, state));
    TRY(sgx_aes_gcm128_enc_update((uint8_t *)text + split, size - split, result + split, state));
    TRY(sgx_aes_gcm128_enc_get_mac(tag, state));
    return (int)sgx_aes_gcm_close(state);
}

int cmac(const uint8_t *key, const uint8_t *text, uint32_t size, uint32_t split, uint8_t *whole,
         uint8_t *parts)
{
    sgx_cmac_state_handle_t state;
    TRY(sgx_rijndael128_cmac_msg((const void *)key, text, size, (void *)whole));
    TRY(sgx_cmac128_init((const void *)key, &state));
    for (int again = 0; again < 2; again++) {
        TRY(sgx_cmac128_update(text, split, state));
        TRY(sgx_cmac128_update(text + split, size - split, state));
        TRY(sgx_cmac128_final(state, (void *)parts));
    }
    return (int)sgx_cmac128_close(state);
}

int hmac(const uint8_t *key, int key_size, const uint8_t *text, int size, int split, uint8_t *whole,
         uint8_t *parts)
{
    sgx_hmac_state_handle_t state;
    TRY(sgx_hmac_sha256_msg(text, size, key, key_size, whole, 32));
    TRY(sgx_hmac256_init(key, key_size, &state));
    for (int again = 0; again < 2; again++) {
        TRY(sgx_hmac256_update(text, split, state));
        TRY(sgx_hmac256_update(text + split, size - split, state));
        TRY(sgx_hmac256_final(parts, 32, state));
    }
    return (int)sgx_hmac256_close(state);
}

int ctr(const uint8_t *key, const uint8_t *text, uint32_t size, uint8_t *counter, uint32_t bits,
        uint8_t *result, int decrypt)
{
    if (decrypt) return (int)sgx_aes_ctr_decrypt((const void *)key, text, size, counter, bits, result);
    return (int)sgx_aes_ctr_encrypt((const void *)key, text, size, counter, bits, result);
}

int new_key(uint8_t *key, uint8_t *point)
{
    sgx_ecc_state_handle_t curve;
    TRY(sgx_ecc256_open_context(&curve));
    TRY(sgx_ecc256_create_key_pair((void *)key, (void *)point, curve));
    return (int)sgx_ecc256_close_context(curve);
}

int point_of(const uint8_t *key, uint8_t *point)
{
    return (int)sgx_ecc256_calculate_pub_from_priv((const void *)key, (void *)point);
}

int is_point(const uint8_t *point, int *valid)
{
    sgx_ecc_state_handle_t curve;
    TRY(sgx_ecc256_open_context(&curve));
    return (int)sgx_ecc256_check_point((const void *)point, curve, valid);
}

int agree(const uint8_t *key, const uint8_t *point, uint8_t *shared)
{
    sgx_ecc_state_handle_t curve;
    TRY(sgx_ecc256_open_context(&curve));
    return (int)sgx_ecc256_compute_shared_dhkey((const void *)key, (const void *)point,
                                                (void *)shared, curve);
}

int sign_text(const uint8_t *key, const uint8_t *text, uint32_t size, uint8_t *signature)
{
    sgx_ecc_state_handle_t curve;
    TRY(sgx_ecc256_open_context(&curve));
    return (int)sgx_ecdsa_sign(text, size, (const void *)key, (void *)signature, curve);
}

int verify_text(const uint8_t *point, const uint8_t *text, uint32_t size,
                 const uint8_t *signature, uint8_t *result)
{
    sgx_ecc_state_handle_t curve;
    TRY(sgx_ecc256_open_context(&curve));
    return (int)sgx_ecdsa_verify(text, size, (const void *)point, (const void *)signature, result,
                                 curve);
}

int derive_key(const uint8_t *seed, int size, const uint8_t *order_less_one, uint8_t *key)
{
    return (int)sgx_calculate_ecdsa_priv_key(seed, size, order_less_one, 32, key, 32);
}

int rsa_sign(const uint8_t *n, const uint8_t *d, uint32_t e, int check, const uint8_t *text,
             uint32_t size, uint8_t *signature)
{
    sgx_rsa3072_key_t key;
    sgx_rsa3072_public_key_t public;
    memcpy(key.mod, n, sizeof key.mod);
    memcpy(key.d, d, sizeof key.d);
    memcpy(key.e, &e, sizeof key.e);
    memcpy(public.mod, n, sizeof public.mod);
    memcpy(public.exp, &e, sizeof public.exp);
    if (!check) return (int)sgx_rsa3072_sign(text, size, &key, (void *)signature);
    return (int)sgx_rsa3072_sign_ex(text, size, &key, &public, (void *)signature);
}

int rsa_verify(const uint8_t *n, uint32_t e, const uint8_t *text, uint32_t size,
               const uint8_t *signature, int *result)
{
    sgx_rsa3072_public_key_t key;
    sgx_rsa_result_t found;
    memcpy(key.mod, n, sizeof key.mod);
    memcpy(key.exp, &e, sizeof key.exp);
    TRY(sgx_rsa3072_verify(text, size, &key, (const void *)signature, &found));
    *result = (int)found;
    return 0;
}

int rsa_key_pair(uint32_t e, uint8_t *n, uint8_t *d, uint8_t *factors)
{
    return (int)sgx_create_rsa_key_pair(384, 4, n, d, (void *)&e, factors, factors + 192,
                                        factors + 384, factors + 576, factors + 768);
}

int rsa_encrypt(const uint8_t *n, uint32_t e, const uint8_t *text, size_t size, uint8_t *result)
{
    void *key;
    size_t need = 0;
    TRY(sgx_create_rsa_pub1_key(384, 4, n, (void *)&e, &key));
    TRY(sgx_rsa_pub_encrypt_sha256(key, NULL, &need, text, size));
    if (need != 384) return -1;
    TRY(sgx_rsa_pub_encrypt_sha256(key, result, &need, text, size));
    return (int)sgx_free_rsa_key(key, SGX_RSA_PUBLIC_KEY, 384, 4);
}

int rsa_decrypt(const uint8_t *n, uint32_t e, const uint8_t *d, const uint8_t *factors, int form,
                const uint8_t *text, uint8_t *result, size_t *size)
{
    void *key;
    const void *exponent = form == 3 ? NULL : &e;
    if (form == 1)
        TRY(sgx_create_rsa_priv1_key(384, 4, 384, n, (void *)&e, d, &key));
    else
        TRY(sgx_create_rsa_priv2_key(384, 4, exponent, factors, factors + 192, factors + 384,
                                     factors + 576, factors + 768, &key));
    *size = 384;
    int status = (int)sgx_rsa_priv_decrypt_sha256(key, result, size, text, 384);
    sgx_free_rsa_key(key, SGX_RSA_PRIVATE_KEY, 384, 4);
    return status;
}

/* How many of the calls with something missing were not refused. */
int refusals(void)
{
    uint8_t byte = 0, *bytes = NULL;
    void *handle;
    sgx_sha256_hash_t sum;
    const sgx_status_t found[] = {
        sgx_sha256_msg(NULL, 0, &sum),
        sgx_sha256_msg(&byte, 1, NULL),
        sgx_sha384_init(NULL),
        sgx_sha1_close(NULL),
        sgx_rijndael128GCM_encrypt((void *)&sum, &byte, 1, NULL, sum, 12, NULL, 0, (void *)&sum),
        sgx_rijndael128GCM_encrypt((void *)&sum, &byte, 1, &byte, sum, 16, NULL, 0, (void *)&sum),
        sgx_aes_gcm_encrypt(sum, 24, &byte, 1, &byte, sum, 12, NULL, 0, (void *)&sum),
        sgx_aes_gcm128_enc_init(sum, sum, 11, NULL, 0, &handle),
        sgx_cmac128_init(NULL, &handle),
        sgx_hmac_sha256_msg(&byte, 1, &byte, 1, sum, 33),
        sgx_hmac_sha256_msg(&byte, 0, &byte, 1, sum, 32),
        sgx_aes_ctr_encrypt((void *)&sum, &byte, 1, sum, 0, &byte),
        sgx_aes_ctr_encrypt((void *)&sum, &byte, 1, sum, 129, &byte),
        sgx_ecc256_open_context(NULL),
        sgx_ecc256_create_key_pair((void *)sum, NULL, NULL),
        sgx_ecdsa_sign(&byte, 0, NULL, NULL, NULL),
        sgx_ecdsa_verify_hash(sum, NULL, NULL, NULL, NULL),
        sgx_rsa3072_sign(bytes, 1, NULL, NULL),
        sgx_create_rsa_pub1_key(0, 4, sum, sum, &handle),
        sgx_rsa_pub_encrypt_sha256(NULL, bytes, NULL, bytes, 1),
        sgx_is_fips_approved_func(SGX_SHA256_MSG, NULL),
    };
    int accepted = 0;
    for (size_t i = 0; i < sizeof found / sizeof *found; i++)
        accepted += found[i] != SGX_ERROR_INVALID_PARAMETER;
    return accepted;
}

int approved(int function)
{
    func_fips_approved_t is_approved = 7;
    TRY(sgx_is_fips_approved_func((sgx_fips_func_t)function, &is_approved));
    return (int)is_approved;
}

/* Encrypt one buffer again and again; the caller has the clock. */
uint64_t gcm_speed(uint32_t size, int rounds)
{
    uint8_t *buffer = calloc(1, size);
    sgx_aes_gcm_128bit_key_t key = {1};
    sgx_aes_gcm_128bit_tag_t tag;
    const uint8_t nonce[12] = {2};
    if (buffer == NULL) return 0;
    for (int i = 0; i < rounds; i++)
        sgx_rijndael128GCM_encrypt(&key, buffer, size, buffer, nonce, 12, NULL, 0, &tag);
    free(buffer);
    return tag[0];
}
