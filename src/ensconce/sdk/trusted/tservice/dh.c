/* SPDX-License-Identifier: Apache-2.0 */
/* Local attestation with a key exchange, versions 1 and 2.
   Version 1 binds the keys by report data SHA-256(g_a || g_b) and the number of the key derivation;
   version 2 sends, in place of the report data, how to make a TARGETINFO out of the report, and
   binds by SHA-256(that || g_b). Both derive their keys as NIST SP 800-108 does, from
   CMAC(0, the shared secret). */
#include <assert.h>
#include <string.h>

#include "mbusafecrt.h"
#include "sgx_dh.h"
#include "sgx_lfence.h"
#include "sgx_trts.h"
#include "sgx_utils.h"

#define KDF_AES_CMAC 1
#define LABEL_SIZE 3

enum state { STATE_FAILED, STATE_NEW, STATE_WAIT_2, STATE_WAIT_1, STATE_WAIT_3, STATE_ACTIVE };

/* What an sgx_dh_session_t holds. */
struct session {
    uint32_t role;
    uint32_t state;
    union {
        sgx_ec256_private_t private; /* the responder's */
        sgx_key_128bit_t smk;        /* the initiator's, which authenticates message 3 */
    };
    sgx_ec256_public_t own, other;
    sgx_ec256_dh_shared_t shared;
};
static_assert(sizeof(struct session) == SGX_DH_SESSION_DATA_SIZE, "a session's size");
static_assert(sizeof(sgx_dh_session_enclave_identity_t) == 260, "an identity's size");

/* Where a TARGETINFO's fields are in a report, one by one: offset << 4 | log2 of the size, or -1
   for a gap. The first word is their number << 8. */
struct specification {
    char name[6];
    uint8_t version, revision;
    uint16_t fields[28];
};
static_assert(sizeof(struct specification) == sizeof(sgx_report_data_t), "fits report data");
#define SIGNIFICANT offsetof(struct specification, revision)

#define FIELD(member, log2_size) (uint16_t)(offsetof(sgx_report_body_t, member) << 4 | (log2_size))

static const struct specification own_specification = {
    .name = {'S', 'G', 'X', ' ', 'L', 'A'},
    .version = 2,
    .fields = {6 << 8, FIELD(mr_enclave, 5), FIELD(attributes, 4), FIELD(reserved1, 0),
               FIELD(config_svn, 1), FIELD(misc_select, 2), FIELD(config_id, 6)},
};

/* Two values, one behind the other, as they are hashed. */
struct pair {
    uint8_t first[64], second[64];
};

static sgx_status_t hash_pair(const void *first, const void *second, sgx_report_data_t *data)
{
    struct pair pair;
    memcpy(pair.first, first, sizeof pair.first);
    memcpy(pair.second, second, sizeof pair.second);
    memset(data, 0, sizeof *data);
    return sgx_sha256_msg((const uint8_t *)&pair, sizeof pair, (sgx_sha256_hash_t *)data);
}

/* Make the TARGETINFO of the enclave that reported. Specification and report may be anything. */
static sgx_status_t target_of(const struct specification *how, const sgx_report_t *report,
                              sgx_target_info_t *target)
{
    size_t count = how->fields[0] >> 8, to = 0;
    memset(target, 0, sizeof *target);
    if (how->version != 2 || how->revision != 0 || (how->fields[0] & 0xff) != 0 || count >= 28)
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_lfence();
    for (size_t i = 1; i <= count; i++) {
        size_t size = (size_t)1 << (how->fields[i] & 15);
        int from = (int16_t)how->fields[i] >> 4;
        to = (to + size - 1) & ~(size - 1);
        if (to + size > sizeof *target || from < -1) return SGX_ERROR_UNEXPECTED;
        if (from >= 0) {
            if ((size_t)from + size > sizeof *report) return SGX_ERROR_UNEXPECTED;
            memcpy((uint8_t *)target + to, (const uint8_t *)report + from, size);
        }
        to += size;
    }
    return SGX_SUCCESS;
}

/* The key called `label`: CMAC over 1 || label || 0 || 128 as 16 bits. */
static sgx_status_t derive(const sgx_ec256_dh_shared_t *shared, const char label[LABEL_SIZE],
                           sgx_key_128bit_t *key)
{
    const sgx_cmac_128bit_key_t zero = {0};
    const uint8_t text[] = {1, (uint8_t)label[0], (uint8_t)label[1], (uint8_t)label[2], 0, 0x80, 0};
    sgx_key_128bit_t root;
    sgx_status_t status = sgx_rijndael128_cmac_msg(&zero, shared->s, sizeof shared->s, &root);
    if (status == SGX_SUCCESS) status = sgx_rijndael128_cmac_msg(&root, text, sizeof text, key);
    memset_s(root, sizeof root, 0, sizeof root);
    return status;
}

static sgx_status_t exchange(const sgx_ec256_private_t *private, const sgx_ec256_public_t *other,
                             sgx_ec256_dh_shared_t *shared, sgx_key_128bit_t *smk)
{
    sgx_ecc_state_handle_t curve;
    sgx_status_t status = sgx_ecc256_open_context(&curve);
    if (status != SGX_SUCCESS) return status;
    status = sgx_ecc256_compute_shared_dhkey(private, other, shared, curve);
    sgx_ecc256_close_context(curve);
    return status == SGX_SUCCESS ? derive(shared, "SMK", smk) : status;
}

static sgx_status_t new_pair(sgx_ec256_private_t *private, sgx_ec256_public_t *public)
{
    sgx_ecc_state_handle_t curve;
    sgx_status_t status = sgx_ecc256_open_context(&curve);
    if (status != SGX_SUCCESS) return status;
    status = sgx_ecc256_create_key_pair(private, public, curve);
    sgx_ecc256_close_context(curve);
    return status;
}

/* CMAC over two texts. */
static sgx_status_t authenticate(const sgx_key_128bit_t *key, const void *first, size_t first_size,
                                 const void *second, size_t second_size, sgx_mac_t *mac)
{
    sgx_cmac_state_handle_t state;
    sgx_status_t status = sgx_cmac128_init(key, &state);
    if (status != SGX_SUCCESS) return status;
    if (first_size != 0) status = sgx_cmac128_update(first, (uint32_t)first_size, state);
    if (status == SGX_SUCCESS && second_size != 0)
        status = sgx_cmac128_update(second, (uint32_t)second_size, state);
    if (status == SGX_SUCCESS) status = sgx_cmac128_final(state, mac);
    sgx_cmac128_close(state);
    return status;
}

static sgx_status_t check(const sgx_key_128bit_t *key, const void *first, size_t first_size,
                          const void *second, size_t second_size, const uint8_t *expected)
{
    sgx_mac_t mac;
    sgx_status_t status = authenticate(key, first, first_size, second, second_size, &mac);
    if (status != SGX_SUCCESS) return status;
    return consttime_memequal(mac, expected, sizeof mac) ? SGX_SUCCESS : SGX_ERROR_MAC_MISMATCH;
}

/* Forget all secrets; callers act on three reasons only. */
static sgx_status_t fail(struct session *session, sgx_status_t status)
{
    memset_s(session, sizeof *session, 0, sizeof *session);
    session->state = STATE_FAILED;
    switch (status) {
    case SGX_ERROR_INVALID_PARAMETER:
    case SGX_ERROR_INVALID_STATE:
    case SGX_ERROR_OUT_OF_MEMORY:
    case SGX_ERROR_KDF_MISMATCH:
        return status;
    default:
        return SGX_ERROR_UNEXPECTED;
    }
}

/* What a computation answers: its own idea of a bad parameter is not the caller's. */
static sgx_status_t inner(sgx_status_t status)
{
    return status == SGX_ERROR_INVALID_PARAMETER ? SGX_ERROR_UNEXPECTED : status;
}

static void become_active(struct session *session)
{
    memset_s(session, sizeof *session, 0, sizeof *session);
    session->state = STATE_ACTIVE;
}

static struct session *session_of(sgx_dh_session_t *session)
{
    if (session == NULL || !sgx_is_within_enclave(session, sizeof *session)) return NULL;
    return (struct session *)session;
}

static int is_inside(const void *buffer, size_t size)
{
    return buffer != NULL && sgx_is_within_enclave(buffer, size);
}

/* Message 3 with the bytes behind it. */
static int is_whole(const sgx_dh_msg3_t *message)
{
    if (!is_inside(message, sizeof *message)) return 0;
    sgx_lfence();
    uint32_t more = message->msg3_body.additional_prop_length;
    return more <= UINT32_MAX - sizeof *message && is_inside(message, sizeof *message + more);
}

sgx_status_t sgx_dh_init_session(sgx_dh_session_role_t role, sgx_dh_session_t *session)
{
    struct session *own = session_of(session);
    if (own == NULL || (role != SGX_DH_SESSION_INITIATOR && role != SGX_DH_SESSION_RESPONDER))
        return SGX_ERROR_INVALID_PARAMETER;
    memset_s(own, sizeof *own, 0, sizeof *own);
    own->role = role;
    own->state = role == SGX_DH_SESSION_INITIATOR ? STATE_WAIT_1 : STATE_NEW;
    return SGX_SUCCESS;
}

sgx_status_t sgx_dh_responder_gen_msg1(sgx_dh_msg1_t *msg1, sgx_dh_session_t *dh_session)
{
    struct session *own = session_of(dh_session);
    sgx_report_t report;
    if (own == NULL) return SGX_ERROR_INVALID_PARAMETER;
    if (!is_inside(msg1, sizeof *msg1) || own->role != SGX_DH_SESSION_RESPONDER)
        return fail(own, SGX_ERROR_INVALID_PARAMETER);
    if (own->state != STATE_NEW) return fail(own, SGX_ERROR_INVALID_STATE);
    sgx_status_t status = sgx_create_report(NULL, NULL, &report);
    if (status == SGX_SUCCESS) status = target_of(&own_specification, &report, &msg1->target);
    if (status == SGX_SUCCESS) status = new_pair(&own->private, &own->own);
    if (status != SGX_SUCCESS) return fail(own, inner(status));
    msg1->g_a = own->own;
    own->state = STATE_WAIT_2;
    return SGX_SUCCESS;
}

static sgx_status_t report_v1(const sgx_dh_msg1_t *msg1, const sgx_key_128bit_t *smk,
                              sgx_dh_msg2_t *msg2)
{
    sgx_report_data_t data;
    sgx_status_t status = hash_pair(&msg1->g_a, &msg2->g_b, &data);
    data.d[SGX_SHA256_HASH_SIZE] = KDF_AES_CMAC;
    if (status == SGX_SUCCESS) status = sgx_create_report(&msg1->target, &data, &msg2->report);
    if (status != SGX_SUCCESS) return status;
    return authenticate(smk, &msg2->report, sizeof msg2->report, NULL, 0, &msg2->cmac);
}

static sgx_status_t report_v2(const sgx_dh_msg1_t *msg1, const sgx_key_128bit_t *smk,
                              sgx_dh_msg2_t *msg2)
{
    sgx_report_data_t data;
    sgx_status_t status = hash_pair(&own_specification, &msg2->g_b, &data);
    if (status == SGX_SUCCESS) status = sgx_create_report(&msg1->target, &data, &msg2->report);
    if (status != SGX_SUCCESS) return status;
    memcpy(&msg2->report.body.report_data, &own_specification, sizeof own_specification);
    return authenticate(smk, &msg2->g_b, sizeof msg2->g_b, NULL, 0, &msg2->cmac);
}

static sgx_status_t answer_1(const sgx_dh_msg1_t *msg1, sgx_dh_msg2_t *msg2,
                             sgx_dh_session_t *dh_session,
                             sgx_status_t (*report)(const sgx_dh_msg1_t *,
                                                    const sgx_key_128bit_t *, sgx_dh_msg2_t *))
{
    struct session *own = session_of(dh_session);
    sgx_ec256_private_t private;
    if (own == NULL) return SGX_ERROR_INVALID_PARAMETER;
    if (!is_inside(msg1, sizeof *msg1) || !is_inside(msg2, sizeof *msg2) ||
        own->role != SGX_DH_SESSION_INITIATOR)
        return fail(own, SGX_ERROR_INVALID_PARAMETER);
    if (own->state != STATE_WAIT_1) return fail(own, SGX_ERROR_INVALID_STATE);
    sgx_status_t status = new_pair(&private, &own->own);
    if (status == SGX_SUCCESS) status = exchange(&private, &msg1->g_a, &own->shared, &own->smk);
    memset_s(&private, sizeof private, 0, sizeof private);
    if (status == SGX_SUCCESS) {
        memset(msg2, 0, sizeof *msg2);
        msg2->g_b = own->own;
        status = report(msg1, (const sgx_key_128bit_t *)&own->smk, msg2);
    }
    if (status != SGX_SUCCESS) return fail(own, inner(status));
    own->other = msg1->g_a;
    own->state = STATE_WAIT_3;
    return SGX_SUCCESS;
}

sgx_status_t sgx_LAv1_initiator_proc_msg1(const sgx_dh_msg1_t *msg1, sgx_dh_msg2_t *msg2,
                                          sgx_dh_session_t *dh_session)
{
    return answer_1(msg1, msg2, dh_session, report_v1);
}

sgx_status_t sgx_LAv2_initiator_proc_msg1(const sgx_dh_msg1_t *msg1, sgx_dh_msg2_t *msg2,
                                          sgx_dh_session_t *dh_session)
{
    return answer_1(msg1, msg2, dh_session, report_v2);
}

static sgx_status_t verify_v1(const sgx_dh_msg2_t *msg2, const sgx_ec256_public_t *g_a,
                              const sgx_key_128bit_t *smk)
{
    const uint8_t *data = msg2->report.body.report_data.d;
    sgx_report_data_t expected;
    if (data[SGX_SHA256_HASH_SIZE] != KDF_AES_CMAC || data[SGX_SHA256_HASH_SIZE + 1] != 0)
        return SGX_ERROR_KDF_MISMATCH;
    sgx_status_t status = check(smk, &msg2->report, sizeof msg2->report, NULL, 0, msg2->cmac);
    if (status == SGX_SUCCESS) status = sgx_verify_report(&msg2->report);
    if (status == SGX_SUCCESS) status = hash_pair(g_a, &msg2->g_b, &expected);
    if (status != SGX_SUCCESS) return status;
    return memcmp(expected.d, data, SGX_SHA256_HASH_SIZE) == 0 ? SGX_SUCCESS
                                                                : SGX_ERROR_MAC_MISMATCH;
}

static sgx_status_t verify_v2(const sgx_dh_msg2_t *msg2, const sgx_key_128bit_t *smk)
{
    sgx_report_t report = msg2->report;
    sgx_status_t status =
        hash_pair(&msg2->report.body.report_data, &msg2->g_b, &report.body.report_data);
    if (status == SGX_SUCCESS) status = sgx_verify_report(&report);
    if (status == SGX_SUCCESS)
        status = check(smk, &msg2->g_b, sizeof msg2->g_b, NULL, 0, msg2->cmac);
    if (status != SGX_SUCCESS) return status;
    return memcmp(&msg2->report.body.report_data, &own_specification, SIGNIFICANT) == 0
               ? SGX_SUCCESS
               : SGX_ERROR_MAC_MISMATCH;
}

/* Fill message 3; `how` is the other's specification, NULL in version 1. */
static sgx_status_t answer_2(const sgx_dh_msg2_t *msg2, const struct specification *how,
                             const sgx_ec256_public_t *g_a, const sgx_key_128bit_t *smk,
                             sgx_dh_msg3_t *msg3)
{
    sgx_target_info_t target;
    sgx_report_data_t data;
    uint32_t more = msg3->msg3_body.additional_prop_length;
    sgx_status_t status =
        target_of(how == NULL ? &own_specification : how, &msg2->report, &target);
    if (status == SGX_SUCCESS)
        status = how == NULL ? hash_pair(&msg2->g_b, g_a, &data) : hash_pair(g_a, how, &data);
    if (status == SGX_SUCCESS)
        status = sgx_create_report(&target, &data, &msg3->msg3_body.report);
    if (status != SGX_SUCCESS) return status;
    if (how == NULL)
        return authenticate(smk, &msg3->msg3_body, sizeof msg3->msg3_body + more, NULL, 0,
                            &msg3->cmac);
    return authenticate(smk, msg3->msg3_body.additional_prop, more, g_a, sizeof *g_a, &msg3->cmac);
}

static sgx_status_t respond(struct session *own, const sgx_dh_msg2_t *msg2, sgx_dh_msg3_t *msg3,
                            sgx_key_128bit_t *aek)
{
    struct specification how;
    sgx_key_128bit_t smk;
    sgx_status_t status = exchange(&own->private, &msg2->g_b, &own->shared, &smk);
    if (status != SGX_SUCCESS) return status;
    int second = 0;
    status = verify_v1(msg2, &own->own, &smk);
    if (status != SGX_SUCCESS && verify_v2(msg2, &smk) == SGX_SUCCESS) {
        second = 1;
        status = SGX_SUCCESS;
    }
    memcpy(&how, &msg2->report.body.report_data, sizeof how);
    if (status == SGX_SUCCESS)
        status = answer_2(msg2, second ? &how : NULL, &own->own, &smk, msg3);
    if (status == SGX_SUCCESS) status = derive(&own->shared, "AEK", aek);
    memset_s(smk, sizeof smk, 0, sizeof smk);
    return status;
}

sgx_status_t sgx_dh_responder_proc_msg2(const sgx_dh_msg2_t *msg2, sgx_dh_msg3_t *msg3,
                                        sgx_dh_session_t *dh_session, sgx_key_128bit_t *aek,
                                        sgx_dh_session_enclave_identity_t *initiator_identity)
{
    struct session *own = session_of(dh_session);
    if (own == NULL) return SGX_ERROR_INVALID_PARAMETER;
    if (!is_whole(msg3) || !is_inside(msg2, sizeof *msg2) || !is_inside(aek, sizeof *aek) ||
        !is_inside(initiator_identity, sizeof *initiator_identity) ||
        own->role != SGX_DH_SESSION_RESPONDER)
        return fail(own, SGX_ERROR_INVALID_PARAMETER);
    if (own->state != STATE_WAIT_2) return fail(own, SGX_ERROR_INVALID_STATE);
    sgx_status_t status = respond(own, msg2, msg3, aek);
    if (status != SGX_SUCCESS) return fail(own, inner(status));
    memcpy(initiator_identity, &msg2->report.body, sizeof *initiator_identity);
    become_active(own);
    return SGX_SUCCESS;
}

static sgx_status_t accept_v1(const struct session *own, const sgx_dh_msg3_t *msg3)
{
    sgx_report_data_t expected;
    const sgx_dh_msg3_body_t *body = &msg3->msg3_body;
    sgx_status_t status = check((const sgx_key_128bit_t *)&own->smk, body,
                                sizeof *body + body->additional_prop_length, NULL, 0, msg3->cmac);
    if (status == SGX_SUCCESS) status = sgx_verify_report(&body->report);
    if (status == SGX_SUCCESS) status = hash_pair(&own->own, &own->other, &expected);
    if (status != SGX_SUCCESS) return status;
    return memcmp(expected.d, body->report.body.report_data.d, SGX_SHA256_HASH_SIZE) == 0
               ? SGX_SUCCESS
               : SGX_ERROR_MAC_MISMATCH;
}

static sgx_status_t accept_v2(const struct session *own, const sgx_dh_msg3_t *msg3)
{
    sgx_report_data_t expected;
    const sgx_dh_msg3_body_t *body = &msg3->msg3_body;
    sgx_status_t status = hash_pair(&own->other, &own_specification, &expected);
    if (status != SGX_SUCCESS) return status;
    if (memcmp(&expected, &body->report.body.report_data, sizeof expected) != 0)
        return SGX_ERROR_MAC_MISMATCH;
    status = sgx_verify_report(&body->report);
    if (status != SGX_SUCCESS) return status;
    return check((const sgx_key_128bit_t *)&own->smk, body->additional_prop,
                 body->additional_prop_length, &own->other, sizeof own->other, msg3->cmac);
}

static sgx_status_t end(const sgx_dh_msg3_t *msg3, sgx_dh_session_t *dh_session,
                        sgx_key_128bit_t *aek, sgx_dh_session_enclave_identity_t *identity,
                        sgx_status_t (*accept)(const struct session *, const sgx_dh_msg3_t *))
{
    struct session *own = session_of(dh_session);
    if (own == NULL) return SGX_ERROR_INVALID_PARAMETER;
    if (!is_whole(msg3) || !is_inside(aek, sizeof *aek) ||
        !is_inside(identity, sizeof *identity) || own->role != SGX_DH_SESSION_INITIATOR)
        return fail(own, SGX_ERROR_INVALID_PARAMETER);
    if (own->state != STATE_WAIT_3) return fail(own, SGX_ERROR_INVALID_STATE);
    sgx_status_t status = accept(own, msg3);
    if (status == SGX_SUCCESS) status = derive(&own->shared, "AEK", aek);
    if (status != SGX_SUCCESS) return fail(own, inner(status));
    memcpy(identity, &msg3->msg3_body.report.body, sizeof *identity);
    become_active(own);
    return SGX_SUCCESS;
}

sgx_status_t sgx_LAv1_initiator_proc_msg3(const sgx_dh_msg3_t *msg3, sgx_dh_session_t *dh_session,
                                          sgx_key_128bit_t *aek,
                                          sgx_dh_session_enclave_identity_t *responder_identity)
{
    return end(msg3, dh_session, aek, responder_identity, accept_v1);
}

sgx_status_t sgx_LAv2_initiator_proc_msg3(const sgx_dh_msg3_t *msg3, sgx_dh_session_t *dh_session,
                                          sgx_key_128bit_t *aek,
                                          sgx_dh_session_enclave_identity_t *responder_identity)
{
    return end(msg3, dh_session, aek, responder_identity, accept_v2);
}
