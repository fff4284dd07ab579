/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include <mbusafecrt.h>
#include <string.h>

#include "sgx_tcrypto.h"
#include "sgx_trts.h"
#include "sgx_utils.h"

#define SECRET_SIZE 32

/* A packet: its number, the MAC, then the encrypted secret. */
struct packet {
    uint64_t number;
    sgx_aes_gcm_128bit_tag_t mac;
    uint8_t secret[SECRET_SIZE];
};

/* AES-GCM breaks when two packets share key and nonce. Both directions use one key, so the sender
   is part of the nonce, and the number never repeats. */
struct nonce {
    uint32_t sender;
    uint64_t number;
} __attribute__((packed));

static struct {
    int open;
    enum product own, other;
    sgx_key_128bit_t key;
    uint64_t sent, received;
} session;

static uint8_t own_secret[SECRET_SIZE], received_secret[SECRET_SIZE];
static int has_secret;

void peer_close(void)
{
    memset_s(&session, sizeof session, 0, sizeof session);
}

sgx_status_t peer_accept(enum product own, const sgx_key_128bit_t *key,
                         const sgx_dh_session_enclave_identity_t *other)
{
    const sgx_report_body_t *self = &sgx_self_report()->body;
    enum product wanted = own == INITIATOR ? RESPONDER : INITIATOR;
    peer_close();
    /* Local attestation has proved who the other is. Whether to trust that one is ours to say:
       the same signer, the other role, no version with known holes, and no debugger unless we
       can be debugged ourselves. */
    if (memcmp(&other->mr_signer, &self->mr_signer, sizeof self->mr_signer) != 0 ||
        other->isv_prod_id != wanted || other->isv_svn < OLDEST ||
        (other->attributes.flags & ~self->attributes.flags & SGX_FLAGS_DEBUG) != 0)
        return (sgx_status_t)STRANGER;
    session.own = own;
    session.other = wanted;
    memcpy(session.key, *key, sizeof session.key);
    session.open = 1;
    return SGX_SUCCESS;
}

int give(uint8_t *bytes, uint32_t size)
{
    struct packet *packet = (struct packet *)bytes;
    if (!session.open) return SGX_ERROR_INVALID_STATE;
    if (packet == NULL || size != sizeof *packet) return SGX_ERROR_INVALID_PARAMETER;
    if (!has_secret) {
        if (sgx_read_rand(own_secret, sizeof own_secret) != SGX_SUCCESS)
            return SGX_ERROR_UNEXPECTED;
        has_secret = 1;
    }
    struct nonce nonce = {session.own, ++session.sent};
    packet->number = nonce.number;
    return (int)sgx_rijndael128GCM_encrypt(&session.key, own_secret, sizeof own_secret,
                                           packet->secret, (const uint8_t *)&nonce, sizeof nonce,
                                           NULL, 0, &packet->mac);
}

int take(const uint8_t *bytes, uint32_t size)
{
    const struct packet *packet = (const struct packet *)bytes;
    uint8_t secret[SECRET_SIZE];
    if (!session.open) return SGX_ERROR_INVALID_STATE;
    if (packet == NULL || size != sizeof *packet) return SGX_ERROR_INVALID_PARAMETER;
    if (packet->number != session.received + 1) return REPLAYED;
    struct nonce nonce = {session.other, packet->number};
    sgx_status_t status = sgx_rijndael128GCM_decrypt(
        &session.key, packet->secret, sizeof packet->secret, secret, (const uint8_t *)&nonce,
        sizeof nonce, NULL, 0, &packet->mac);
    if (status != SGX_SUCCESS) return (int)status;
    session.received = packet->number;
    memcpy(received_secret, secret, sizeof secret);
    memset_s(secret, sizeof secret, 0, sizeof secret);
    return SGX_SUCCESS;
}

int fingerprints(uint8_t *own, uint8_t *received)
{
    sgx_status_t status =
        sgx_sha256_msg(own_secret, sizeof own_secret, (sgx_sha256_hash_t *)own);
    if (status != SGX_SUCCESS) return (int)status;
    return (int)sgx_sha256_msg(received_secret, sizeof received_secret,
                               (sgx_sha256_hash_t *)received);
}
