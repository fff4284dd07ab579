/* SPDX-License-Identifier: Apache-2.0 */
/* The operations that the benchmark counts, each many times in one ECALL. */
#include "crypto_t.h"

#include <string.h>

#include "sgx_tcrypto.h"

enum { AES_128_GCM, SHA_256, ECDSA_SIGN, ECDSA_VERIFY, RSA_SIGN, RSA_VERIFY };

static uint8_t source[16384], target[16384];
static sgx_ecc_state_handle_t curve;
static sgx_ec256_private_t ec_private;
static sgx_ec256_public_t ec_public;
static sgx_ec256_signature_t ec_signature;
static sgx_rsa3072_key_t rsa_private;
static sgx_rsa3072_public_key_t rsa_public;
static sgx_rsa3072_signature_t rsa_signature;

int prepare(void)
{
    static uint8_t prime[5][192];
    int status = sgx_ecc256_open_context(&curve);
    rsa_private.e[0] = rsa_private.e[2] = 1; /* 65537 */
    if (status == 0) status = sgx_ecc256_create_key_pair(&ec_private, &ec_public, curve);
    if (status == 0)
        status = sgx_create_rsa_key_pair(384, 4, rsa_private.mod, rsa_private.d, rsa_private.e,
                                         prime[0], prime[1], prime[2], prime[3], prime[4]);
    memcpy(rsa_public.mod, rsa_private.mod, sizeof rsa_public.mod);
    memcpy(rsa_public.exp, rsa_private.e, sizeof rsa_public.exp);
    if (status == 0) status = repeat(ECDSA_SIGN, 32, 1);
    return status == 0 ? repeat(RSA_SIGN, 32, 1) : status;
}

static int once(int operation, uint32_t size)
{
    static const uint8_t key[16], nonce[12], header[13];
    uint8_t hash[32], result = SGX_EC_INVALID_SIGNATURE;
    sgx_aes_gcm_128bit_tag_t tag;
    sgx_rsa_result_t found = SGX_RSA_INVALID_SIGNATURE;
    switch (operation) {
    case AES_128_GCM:
        return (int)sgx_rijndael128GCM_encrypt(&key, source, size, target, nonce, sizeof nonce,
                                               header, sizeof header, &tag);
    case SHA_256: return (int)sgx_sha256_msg(source, size, &hash);
    case ECDSA_SIGN:
        return (int)sgx_ecdsa_sign(source, size, &ec_private, &ec_signature, curve);
    case ECDSA_VERIFY:
        return (int)sgx_ecdsa_verify(source, size, &ec_public, &ec_signature, &result, curve) |
               result;
    case RSA_SIGN: return (int)sgx_rsa3072_sign(source, size, &rsa_private, &rsa_signature);
    case RSA_VERIFY:
        return (int)sgx_rsa3072_verify(source, size, &rsa_public, &rsa_signature, &found) |
               (int)found;
    default: return SGX_ERROR_INVALID_PARAMETER;
    }
}

int repeat(int operation, uint32_t size, uint64_t rounds)
{
    int status = size > sizeof source ? SGX_ERROR_INVALID_PARAMETER : 0;
    while (status == 0 && rounds-- != 0) status = once(operation, size);
    return status;
}
