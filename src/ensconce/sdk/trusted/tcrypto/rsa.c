/* SPDX-License-Identifier: Apache-2.0 */
/* RSA: signatures with 3072 bits, and keys of any size for encryption. A key object is an RSA. */
#include <openssl/digest.h>
#include <openssl/nid.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <string.h>

#include "crypto/rsa_extra/internal.h"
#include "tcrypto.h"

/* 0x00, a mask's seed, and the hash of an empty label: what OAEP adds (RFC 8017, 7.1.1). */
#define OAEP_OVERHEAD (2 * SGX_SHA256_HASH_SIZE + 2)

#define MAX_KEY_SIZE 1024 /* bytes; larger ones would take minutes to make */

static RSA *public_key(const void *n, size_t n_size, const void *e, size_t e_size)
{
    BIGNUM *modulus = number(n, n_size), *exponent = number(e, e_size);
    RSA *key = modulus == NULL || exponent == NULL ? NULL : RSA_new_public_key(modulus, exponent);
    BN_free(modulus);
    BN_free(exponent);
    return key;
}

/* Without a public exponent a private key works, but what it computes cannot be blinded. */
static RSA *private_key(const BIGNUM *n, const BIGNUM *e, const BIGNUM *d)
{
    if (n == NULL || e == NULL || d == NULL) return NULL;
    return BN_is_zero(e) ? RSA_new_private_key_no_e(n, d) : RSA_new_private_key_no_crt(n, e, d);
}

sgx_status_t sgx_rsa3072_sign_ex(const uint8_t *p_data, uint32_t data_size,
                                 const sgx_rsa3072_key_t *p_key,
                                 const sgx_rsa3072_public_key_t *p_public,
                                 sgx_rsa3072_signature_t *p_signature)
{
    if (p_data == NULL || data_size == 0 || p_key == NULL || p_signature == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    BIGNUM *n = number(p_key->mod, sizeof p_key->mod), *e = number(p_key->e, sizeof p_key->e);
    BIGNUM *d = number(p_key->d, sizeof p_key->d);
    RSA *key = private_key(n, e, d);
    BN_free(n);
    BN_free(e);
    BN_clear_free(d);
    uint8_t hash[SGX_SHA256_HASH_SIZE];
    unsigned size = 0;
    SHA256(p_data, data_size, hash);
    int ok = key != NULL && RSA_size(key) == sizeof *p_signature &&
             RSA_sign(NID_sha256, hash, sizeof hash, *p_signature, &size, key);
    RSA_free(key);
    if (!ok) return SGX_ERROR_UNEXPECTED;
    if (p_public == NULL) return SGX_SUCCESS;
    sgx_rsa_result_t result;
    sgx_status_t status = sgx_rsa3072_verify(p_data, data_size, p_public,
                                             (const sgx_rsa3072_signature_t *)p_signature, &result);
    if (status == SGX_SUCCESS && result == SGX_RSA_VALID) return SGX_SUCCESS;
    OPENSSL_cleanse(p_signature, sizeof *p_signature); /* a faulty one can give the key away */
    return SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_rsa3072_sign(const uint8_t *p_data, uint32_t data_size,
                              const sgx_rsa3072_key_t *p_key, sgx_rsa3072_signature_t *p_signature)
{
    return sgx_rsa3072_sign_ex(p_data, data_size, p_key, NULL, p_signature);
}

sgx_status_t sgx_rsa3072_verify(const uint8_t *p_data, uint32_t data_size,
                                const sgx_rsa3072_public_key_t *p_public,
                                const sgx_rsa3072_signature_t *p_signature,
                                sgx_rsa_result_t *p_result)
{
    if (p_data == NULL || data_size == 0 || p_public == NULL || p_signature == NULL ||
        p_result == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    *p_result = SGX_RSA_INVALID_SIGNATURE;
    RSA *key = public_key(p_public->mod, sizeof p_public->mod, p_public->exp, sizeof p_public->exp);
    if (key == NULL) return SGX_ERROR_UNEXPECTED;
    uint8_t hash[SGX_SHA256_HASH_SIZE];
    SHA256(p_data, data_size, hash);
    if (RSA_verify(NID_sha256, hash, sizeof hash, *p_signature, sizeof *p_signature, key))
        *p_result = SGX_RSA_VALID;
    RSA_free(key);
    return SGX_SUCCESS;
}

static int store_key(const RSA *key, size_t size, size_t e_size, unsigned char *const parts[8])
{
    const BIGNUM *const values[8] = {RSA_get0_n(key),    RSA_get0_d(key),    RSA_get0_e(key),
                                     RSA_get0_p(key),    RSA_get0_q(key),    RSA_get0_dmp1(key),
                                     RSA_get0_dmq1(key), RSA_get0_iqmp(key)};
    const size_t sizes[8] = {size, size, e_size, size / 2, size / 2, size / 2, size / 2, size / 2};
    for (int i = 0; i < 8; i++)
        if (!store_number(parts[i], sizes[i], values[i])) return 0;
    return 1;
}

sgx_status_t sgx_create_rsa_key_pair(int n_byte_size, int e_byte_size, unsigned char *p_n,
                                     unsigned char *p_d, unsigned char *p_e, unsigned char *p_p,
                                     unsigned char *p_q, unsigned char *p_dmp1,
                                     unsigned char *p_dmq1, unsigned char *p_iqmp)
{
    if (n_byte_size <= 0 || n_byte_size > MAX_KEY_SIZE || e_byte_size <= 0 ||
        p_n == NULL || p_d == NULL || p_e == NULL || p_p == NULL || p_q == NULL || p_dmp1 == NULL ||
        p_dmq1 == NULL || p_iqmp == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    RSA *key = RSA_new();
    BIGNUM *e = number(p_e, (size_t)e_byte_size);
    unsigned char *const parts[8] = {p_n, p_d, p_e, p_p, p_q, p_dmp1, p_dmq1, p_iqmp};
    int ok = key != NULL && e != NULL && RSA_generate_key_ex(key, n_byte_size * 8, e, NULL) &&
             store_key(key, (size_t)n_byte_size, (size_t)e_byte_size, parts);
    BN_free(e);
    RSA_free(key);
    return ok ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

/* The numbers of a private key by its primes. */
struct factors {
    BIGNUM *p, *q, *dmp1, *dmq1, *iqmp;
};

/* n = pq; e, if unknown, inverts dmp1 modulo p - 1; d inverts e modulo (p - 1)(q - 1). */
static RSA *key_of(const struct factors *known, BIGNUM *e, BN_CTX *context)
{
    BIGNUM *n = BN_new(), *d = BN_new(), *p1 = BN_dup(known->p), *q1 = BN_dup(known->q);
    BIGNUM *phi = BN_new();
    RSA *key = NULL;
    if (n != NULL && d != NULL && p1 != NULL && q1 != NULL && phi != NULL &&
        BN_mul(n, known->p, known->q, context) && BN_sub_word(p1, 1) && BN_sub_word(q1, 1) &&
        BN_mul(phi, p1, q1, context) &&
        (!BN_is_zero(e) || BN_mod_inverse(e, known->dmp1, p1, context) != NULL) &&
        BN_mod_inverse(d, e, phi, context) != NULL)
        key = RSA_new_private_key(n, e, d, known->p, known->q, known->dmp1, known->dmq1,
                                  known->iqmp);
    BN_free(n);
    BN_clear_free(d);
    BN_clear_free(p1);
    BN_clear_free(q1);
    BN_clear_free(phi);
    return key;
}

sgx_status_t sgx_create_rsa_priv2_key(int mod_size, int exp_size,
                                      const unsigned char *p_rsa_key_e,
                                      const unsigned char *p_rsa_key_p,
                                      const unsigned char *p_rsa_key_q,
                                      const unsigned char *p_rsa_key_dmp1,
                                      const unsigned char *p_rsa_key_dmq1,
                                      const unsigned char *p_rsa_key_iqmp, void **new_pri_key2)
{
    if (mod_size <= 0 || p_rsa_key_p == NULL || p_rsa_key_q == NULL || p_rsa_key_dmp1 == NULL ||
        p_rsa_key_dmq1 == NULL || p_rsa_key_iqmp == NULL || new_pri_key2 == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    size_t half = (size_t)mod_size / 2;
    struct factors known = {number(p_rsa_key_p, half), number(p_rsa_key_q, half),
                            number(p_rsa_key_dmp1, half), number(p_rsa_key_dmq1, half),
                            number(p_rsa_key_iqmp, half)};
    BIGNUM *e = p_rsa_key_e == NULL || exp_size <= 0 ? BN_new()
                                                     : number(p_rsa_key_e, (size_t)exp_size);
    BN_CTX *context = BN_CTX_new();
    RSA *key = NULL;
    if (known.p != NULL && known.q != NULL && known.dmp1 != NULL && known.dmq1 != NULL &&
        known.iqmp != NULL && e != NULL && context != NULL)
        key = key_of(&known, e, context);
    BN_clear_free(known.p);
    BN_clear_free(known.q);
    BN_clear_free(known.dmp1);
    BN_clear_free(known.dmq1);
    BN_clear_free(known.iqmp);
    BN_free(e);
    BN_CTX_free(context);
    if (key == NULL) return SGX_ERROR_UNEXPECTED;
    *new_pri_key2 = key;
    return SGX_SUCCESS;
}

sgx_status_t sgx_create_rsa_priv1_key(int n_byte_size, int e_byte_size, int d_byte_size,
                                      const unsigned char *le_n, const unsigned char *le_e,
                                      const unsigned char *le_d, void **new_pri_key1)
{
    if (n_byte_size <= 0 || e_byte_size <= 0 || d_byte_size <= 0 || new_pri_key1 == NULL ||
        le_n == NULL || le_e == NULL || le_d == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    BIGNUM *n = number(le_n, (size_t)n_byte_size), *e = number(le_e, (size_t)e_byte_size);
    BIGNUM *d = number(le_d, (size_t)d_byte_size);
    RSA *key = private_key(n, e, d);
    BN_free(n);
    BN_free(e);
    BN_clear_free(d);
    if (key == NULL) return SGX_ERROR_UNEXPECTED;
    *new_pri_key1 = key;
    return SGX_SUCCESS;
}

sgx_status_t sgx_create_rsa_pub1_key(int mod_size, int exp_size, const unsigned char *le_n,
                                     const unsigned char *le_e, void **new_pub_key1)
{
    if (new_pub_key1 == NULL || mod_size <= 0 || exp_size <= 0 || le_n == NULL || le_e == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    RSA *key = public_key(le_n, (size_t)mod_size, le_e, (size_t)exp_size);
    if (key == NULL) return SGX_ERROR_UNEXPECTED;
    *new_pub_key1 = key;
    return SGX_SUCCESS;
}

sgx_status_t sgx_free_rsa_key(void *p_rsa_key, sgx_rsa_key_type_t key_type, int mod_size,
                              int exp_size)
{
    (void)key_type, (void)mod_size, (void)exp_size;
    RSA_free(p_rsa_key);
    return SGX_SUCCESS;
}

sgx_status_t sgx_rsa_pub_encrypt_sha256(const void *rsa_key, unsigned char *pout_data,
                                        size_t *pout_len, const unsigned char *pin_data,
                                        const size_t pin_len)
{
    if (rsa_key == NULL || pout_len == NULL || pin_data == NULL || pin_len == 0 ||
        pin_len >= INT_MAX)
        return SGX_ERROR_INVALID_PARAMETER;
    RSA *key = (RSA *)rsa_key; /* its caches of what it computed are its own affair */
    size_t size = RSA_size(key), stored;
    size_t room = *pout_len;
    *pout_len = size;
    if (pout_data == NULL) return SGX_SUCCESS;
    if (room < size || size < OAEP_OVERHEAD || pin_len > size - OAEP_OVERHEAD)
        return SGX_ERROR_INVALID_PARAMETER;
    uint8_t *padded = OPENSSL_malloc(size);
    if (padded == NULL) return SGX_ERROR_OUT_OF_MEMORY;
    const EVP_MD *hash = EVP_sha256();
    int ok = RSA_padding_add_PKCS1_OAEP_mgf1(padded, size, pin_data, pin_len, NULL, 0, hash, hash) &&
             RSA_encrypt(key, &stored, pout_data, room, padded, size, RSA_NO_PADDING);
    OPENSSL_free(padded);
    return ok ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_rsa_priv_decrypt_sha256(const void *rsa_key, unsigned char *pout_data,
                                         size_t *pout_len, const unsigned char *pin_data,
                                         const size_t pin_len)
{
    if (rsa_key == NULL || pout_len == NULL || pin_data == NULL) return SGX_ERROR_INVALID_PARAMETER;
    RSA *key = (RSA *)rsa_key;
    size_t size = RSA_size(key), stored, room = *pout_len;
    if (pout_data == NULL) {
        *pout_len = size;
        return SGX_SUCCESS;
    }
    if (pin_len != size) return SGX_ERROR_INVALID_PARAMETER;
    uint8_t *padded = OPENSSL_malloc(size), *text = OPENSSL_malloc(size);
    const EVP_MD *hash = EVP_sha256();
    int made = padded != NULL && text != NULL;
    int ok = made && RSA_decrypt(key, &stored, padded, size, pin_data, pin_len, RSA_NO_PADDING) &&
             RSA_padding_check_PKCS1_OAEP_mgf1(text, &stored, size, padded, size, NULL, 0, hash,
                                               hash);
    int fits = ok && stored <= room;
    if (fits) memcpy(pout_data, text, stored);
    if (ok) *pout_len = stored;
    OPENSSL_free(padded); /* clears it first */
    OPENSSL_free(text);
    if (!made) return SGX_ERROR_OUT_OF_MEMORY;
    if (!ok) return SGX_ERROR_UNEXPECTED;
    return fits ? SGX_SUCCESS : SGX_ERROR_INVALID_PARAMETER;
}
