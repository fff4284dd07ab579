/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave that proves who it is to somebody far away, and is then given a secret by them. The
   host, which carries everything and holds the TLS key, sees the secret encrypted only. */
#include "enclave_t.h"

#include <mbusafecrt.h>
#include <string.h>

#include "sgx_tcrypto.h"
#include "sgx_utils.h"

#define SECRET_SIZE 32

/* The claims are a map in CBOR. It is built here and not by the host, so that no claim about the
   enclave's key can come from anywhere else. */
struct claims {
    uint8_t tls_head[19]; /* {"pubkey-hash": [1, SHA-256 of the TLS key] in bytes */
    uint8_t tls_key_hash[32];
    uint8_t nonce_head[8]; /* "nonce": 32 bytes */
    uint8_t nonce[32];
    uint8_t key_head[14]; /* "enclave-key": 64 bytes} */
    sgx_ec256_public_t key;
};
static const struct claims empty = {
    .tls_head = "\xa3\x6bpubkey-hash\x58\x24\x82\x01\x58\x20",
    .nonce_head = "\x65nonce\x58\x20",
    .key_head = "\x6b" "enclave-key\x58\x40",
};

/* What a relying party sends: its own one-time key, and the secret encrypted for both keys. */
struct box {
    sgx_ec256_public_t sender;
    sgx_aes_gcm_128bit_tag_t mac;
    uint8_t secret[SECRET_SIZE];
};

static struct {
    int made;
    sgx_ec256_private_t secret;
    sgx_ec256_public_t public;
} own;

static uint8_t secret[SECRET_SIZE];
static int received;

static sgx_status_t make_key(void)
{
    sgx_ecc_state_handle_t curve;
    if (own.made) return SGX_SUCCESS;
    sgx_status_t status = sgx_ecc256_open_context(&curve);
    if (status != SGX_SUCCESS) return status;
    status = sgx_ecc256_create_key_pair(&own.secret, &own.public, curve);
    own.made = status == SGX_SUCCESS;
    sgx_ecc256_close_context(curve);
    return status;
}

int attest(const sgx_target_info_t *target, const uint8_t *tls_key_hash, const uint8_t *nonce,
           uint8_t *claims, uint32_t size, sgx_report_t *report)
{
    struct claims made = empty;
    sgx_report_data_t data = {{0}};
    if (!target || !tls_key_hash || !nonce || !claims || !report || size != sizeof made)
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = make_key();
    if (status != SGX_SUCCESS) return (int)status;
    memcpy(made.tls_key_hash, tls_key_hash, sizeof made.tls_key_hash);
    memcpy(made.nonce, nonce, sizeof made.nonce);
    made.key = own.public;
    status = sgx_sha256_msg((const uint8_t *)&made, sizeof made, (sgx_sha256_hash_t *)data.d);
    if (status != SGX_SUCCESS) return (int)status;
    memcpy(claims, &made, sizeof made);
    return (int)sgx_create_report(target, &data, report);
}

/* The key of one box: from what only the two keys' holders can compute, and from both keys. */
static sgx_status_t key_of(const sgx_ec256_public_t *sender, sgx_aes_gcm_128bit_key_t *key)
{
    struct {
        sgx_ec256_dh_shared_t shared;
        sgx_ec256_public_t sender, receiver;
    } input = {.sender = *sender, .receiver = own.public};
    sgx_sha256_hash_t digest;
    sgx_ecc_state_handle_t curve;
    int valid = 0;
    sgx_status_t status = sgx_ecc256_open_context(&curve);
    if (status != SGX_SUCCESS) return status;
    status = sgx_ecc256_check_point(sender, curve, &valid);
    if (status == SGX_SUCCESS && !valid) status = SGX_ERROR_INVALID_PARAMETER;
    if (status == SGX_SUCCESS)
        status = sgx_ecc256_compute_shared_dhkey(&own.secret, sender, &input.shared, curve);
    sgx_ecc256_close_context(curve);
    if (status == SGX_SUCCESS)
        status = sgx_sha256_msg((const uint8_t *)&input, sizeof input, &digest);
    if (status == SGX_SUCCESS) memcpy(*key, digest, sizeof *key);
    memset_s(&input, sizeof input, 0, sizeof input);
    memset_s(&digest, sizeof digest, 0, sizeof digest);
    return status;
}

int receive(const uint8_t *bytes, uint32_t size)
{
    const struct box *box = (const struct box *)bytes;
    const uint8_t nonce[12] = {0}; /* each key is for one box, so a fixed nonce is safe */
    sgx_aes_gcm_128bit_key_t key;
    uint8_t opened[SECRET_SIZE];
    if (!own.made) return SGX_ERROR_INVALID_STATE;
    if (!bytes || size != sizeof *box) return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = key_of(&box->sender, &key);
    if (status == SGX_SUCCESS)
        status = sgx_rijndael128GCM_decrypt(&key, box->secret, sizeof box->secret, opened, nonce,
                                            sizeof nonce, NULL, 0, &box->mac);
    memset_s(key, sizeof key, 0, sizeof key);
    if (status != SGX_SUCCESS) return (int)status;
    memcpy(secret, opened, sizeof secret);
    memset_s(opened, sizeof opened, 0, sizeof opened);
    received = 1;
    return SGX_SUCCESS;
}

int fingerprint(uint8_t *digest)
{
    if (!digest) return SGX_ERROR_INVALID_PARAMETER;
    if (!received) return SGX_ERROR_INVALID_STATE;
    return (int)sgx_sha256_msg(secret, sizeof secret, (sgx_sha256_hash_t *)digest);
}
