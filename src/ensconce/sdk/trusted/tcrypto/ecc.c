/* SPDX-License-Identifier: Apache-2.0 */
/* The curve P-256: keys, Diffie-Hellman, ECDSA. A context is the curve itself, which is constant. */
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/ecdh.h>
#include <openssl/ecdsa.h>
#include <openssl/sha.h>
#include <string.h>

#include "tcrypto.h"

sgx_status_t sgx_ecc256_open_context(sgx_ecc_state_handle_t *p_ecc_handle)
{
    if (p_ecc_handle == NULL) return SGX_ERROR_INVALID_PARAMETER;
    *p_ecc_handle = (void *)EC_group_p256();
    return SGX_SUCCESS;
}

sgx_status_t sgx_ecc256_close_context(sgx_ecc_state_handle_t ecc_handle)
{
    return ecc_handle == NULL ? SGX_ERROR_INVALID_PARAMETER : SGX_SUCCESS;
}

/* A key object with the parts that are given, NULL when they make no key. */
static EC_KEY *new_key(const sgx_ec256_private_t *private, const sgx_ec256_public_t *public)
{
    EC_KEY *key = EC_KEY_new();
    if (key == NULL || !EC_KEY_set_group(key, EC_group_p256())) {
        EC_KEY_free(key);
        return NULL;
    }
    int ok = 1;
    if (private != NULL) {
        BIGNUM *scalar = number(private->r, sizeof private->r);
        ok = scalar != NULL && EC_KEY_set_private_key(key, scalar);
        BN_clear_free(scalar);
    }
    if (ok && public != NULL) {
        BIGNUM *x = number(public->gx, sizeof public->gx);
        BIGNUM *y = number(public->gy, sizeof public->gy);
        ok = x != NULL && y != NULL && EC_KEY_set_public_key_affine_coordinates(key, x, y);
        BN_free(x);
        BN_free(y);
    }
    if (ok) return key;
    EC_KEY_free(key);
    return NULL;
}

static int store_point(const EC_POINT *point, sgx_ec256_public_t *public)
{
    BIGNUM *x = BN_new(), *y = BN_new();
    int ok = x != NULL && y != NULL &&
             EC_POINT_get_affine_coordinates_GFp(EC_group_p256(), point, x, y, NULL) &&
             store_number(public->gx, sizeof public->gx, x) &&
             store_number(public->gy, sizeof public->gy, y);
    BN_free(x);
    BN_free(y);
    return ok;
}

sgx_status_t sgx_ecc256_create_key_pair(sgx_ec256_private_t *p_private,
                                        sgx_ec256_public_t *p_public,
                                        sgx_ecc_state_handle_t ecc_handle)
{
    if (ecc_handle == NULL || p_private == NULL || p_public == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    EC_KEY *key = new_key(NULL, NULL);
    if (key == NULL) return SGX_ERROR_OUT_OF_MEMORY;
    int ok = EC_KEY_generate_key(key) && store_point(EC_KEY_get0_public_key(key), p_public) &&
             store_number(p_private->r, sizeof p_private->r, EC_KEY_get0_private_key(key));
    EC_KEY_free(key);
    return ok ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_ecc256_check_point(const sgx_ec256_public_t *p_point,
                                    const sgx_ecc_state_handle_t ecc_handle, int *p_valid)
{
    if (ecc_handle == NULL || p_point == NULL || p_valid == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    EC_KEY *key = new_key(NULL, p_point);
    *p_valid = key != NULL;
    EC_KEY_free(key);
    return SGX_SUCCESS;
}

sgx_status_t sgx_ecc256_compute_shared_dhkey(const sgx_ec256_private_t *p_private_b,
                                             const sgx_ec256_public_t *p_public_ga,
                                             sgx_ec256_dh_shared_t *p_shared_key,
                                             sgx_ecc_state_handle_t ecc_handle)
{
    if (ecc_handle == NULL || p_private_b == NULL || p_public_ga == NULL || p_shared_key == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    EC_KEY *own = new_key(p_private_b, NULL), *other = new_key(NULL, p_public_ga);
    uint8_t x[SGX_ECP256_KEY_SIZE];
    int ok = own != NULL && other != NULL &&
             ECDH_compute_key(x, sizeof x, EC_KEY_get0_public_key(other), own, NULL) == sizeof x;
    for (size_t i = 0; ok && i < sizeof x; i++) p_shared_key->s[i] = x[sizeof x - 1 - i];
    OPENSSL_cleanse(x, sizeof x);
    EC_KEY_free(own);
    EC_KEY_free(other);
    return ok ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_ecc256_calculate_pub_from_priv(const sgx_ec256_private_t *p_att_priv_key,
                                                sgx_ec256_public_t *p_att_pub_key)
{
    if (p_att_priv_key == NULL || p_att_pub_key == NULL) return SGX_ERROR_INVALID_PARAMETER;
    EC_KEY *key = new_key(p_att_priv_key, NULL);
    EC_POINT *point = EC_POINT_new(EC_group_p256());
    int ok = key != NULL && point != NULL &&
             EC_POINT_mul(EC_group_p256(), point, EC_KEY_get0_private_key(key), NULL, NULL, NULL) &&
             store_point(point, p_att_pub_key);
    EC_POINT_free(point);
    EC_KEY_free(key);
    return ok ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_ecdsa_sign(const uint8_t *p_data, uint32_t data_size,
                            const sgx_ec256_private_t *p_private,
                            sgx_ec256_signature_t *p_signature, sgx_ecc_state_handle_t ecc_handle)
{
    if (ecc_handle == NULL || p_private == NULL || p_signature == NULL || p_data == NULL ||
        data_size == 0)
        return SGX_ERROR_INVALID_PARAMETER;
    uint8_t hash[SGX_SHA256_HASH_SIZE];
    EC_KEY *key = new_key(p_private, NULL);
    ECDSA_SIG *signature =
        key == NULL ? NULL : ECDSA_do_sign(SHA256(p_data, data_size, hash), sizeof hash, key);
    EC_KEY_free(key);
    int ok = signature != NULL &&
             store_number(p_signature->x, sizeof p_signature->x, ECDSA_SIG_get0_r(signature)) &&
             store_number(p_signature->y, sizeof p_signature->y, ECDSA_SIG_get0_s(signature));
    ECDSA_SIG_free(signature);
    return ok ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_ecdsa_verify(const uint8_t *p_data, uint32_t data_size,
                              const sgx_ec256_public_t *p_public,
                              const sgx_ec256_signature_t *p_signature, uint8_t *p_result,
                              sgx_ecc_state_handle_t ecc_handle)
{
    uint8_t hash[SGX_SHA256_HASH_SIZE];
    if (p_data == NULL || data_size == 0) return SGX_ERROR_INVALID_PARAMETER;
    SHA256(p_data, data_size, hash);
    return sgx_ecdsa_verify_hash(hash, p_public, p_signature, p_result, ecc_handle);
}

sgx_status_t sgx_ecdsa_verify_hash(const uint8_t *p_data, const sgx_ec256_public_t *p_public,
                                   const sgx_ec256_signature_t *p_signature, uint8_t *p_result,
                                   sgx_ecc_state_handle_t ecc_handle)
{
    if (ecc_handle == NULL || p_public == NULL || p_signature == NULL || p_data == NULL ||
        p_result == NULL)
        return SGX_ERROR_INVALID_PARAMETER;
    *p_result = SGX_EC_INVALID_SIGNATURE;
    EC_KEY *key = new_key(NULL, p_public);
    ECDSA_SIG *signature = ECDSA_SIG_new();
    BIGNUM *r = number(p_signature->x, sizeof p_signature->x);
    BIGNUM *s = number(p_signature->y, sizeof p_signature->y);
    int whole = signature != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(signature, r, s);
    if (!whole) {
        BN_free(r);
        BN_free(s);
    }
    if (whole && key != NULL && ECDSA_do_verify(p_data, SGX_SHA256_HASH_SIZE, signature, key) == 1)
        *p_result = SGX_EC_VALID;
    int known = key != NULL;
    ECDSA_SIG_free(signature);
    EC_KEY_free(key);
    if (!whole) return SGX_ERROR_OUT_OF_MEMORY;
    return known ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_calculate_ecdsa_priv_key(const unsigned char *hash_drg, int hash_drg_len,
                                          const unsigned char *sgx_nistp256_r_m1,
                                          int sgx_nistp256_r_m1_len, unsigned char *out_key,
                                          int out_key_len)
{
    if (out_key == NULL || hash_drg == NULL || sgx_nistp256_r_m1 == NULL || hash_drg_len <= 0 ||
        sgx_nistp256_r_m1_len <= 0 || out_key_len <= 0)
        return SGX_ERROR_INVALID_PARAMETER;
    memset(out_key, 0, (size_t)out_key_len);
    if (sgx_nistp256_r_m1_len != sizeof(sgx_ec256_private_t) ||
        out_key_len < sgx_nistp256_r_m1_len)
        return SGX_ERROR_UNEXPECTED;
    BN_CTX *context = BN_CTX_new();
    BIGNUM *seed = number(hash_drg, (size_t)hash_drg_len), *key = BN_new();
    BIGNUM *modulus = number(sgx_nistp256_r_m1, (size_t)sgx_nistp256_r_m1_len);
    int ok = context != NULL && seed != NULL && key != NULL && modulus != NULL &&
             !BN_is_zero(modulus) && BN_nnmod(key, seed, modulus, context) && BN_add_word(key, 1) &&
             BN_bn2bin_padded(out_key, (size_t)sgx_nistp256_r_m1_len, key);
    BN_clear_free(seed);
    BN_clear_free(key);
    BN_free(modulus);
    BN_CTX_free(context);
    return ok ? SGX_SUCCESS : SGX_ERROR_UNEXPECTED;
}
