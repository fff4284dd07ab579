/* SPDX-License-Identifier: Apache-2.0 */
/* One session per enclave. */
#include "attestation_t.h"

#include <string.h>

#include "sgx_dh.h"

_Static_assert(sizeof(sgx_dh_msg1_t) == 576, "message 1");
_Static_assert(sizeof(sgx_dh_msg2_t) == 512, "message 2");
_Static_assert(sizeof(sgx_dh_msg3_t) == 452, "message 3");

static sgx_dh_session_t session;

int start(int role)
{
    return (int)sgx_dh_init_session((sgx_dh_session_role_t)role, &session);
}

int make_1(uint8_t *message)
{
    return (int)sgx_dh_responder_gen_msg1((sgx_dh_msg1_t *)message, &session);
}

int answer_1(int version, const uint8_t *message, uint8_t *answer)
{
    const sgx_dh_msg1_t *msg1 = (const sgx_dh_msg1_t *)message;
    sgx_dh_msg2_t *msg2 = (sgx_dh_msg2_t *)answer;
    if (version == 2) return (int)sgx_LAv2_initiator_proc_msg1(msg1, msg2, &session);
    return (int)sgx_dh_initiator_proc_msg1(msg1, msg2, &session);
}

int answer_2(const uint8_t *message, uint32_t extra, uint8_t *answer, uint8_t *key,
             uint8_t *identity)
{
    sgx_dh_msg3_t *msg3 = (sgx_dh_msg3_t *)answer;
    msg3->msg3_body.additional_prop_length = extra;
    if (extra <= 60) memset(msg3->msg3_body.additional_prop, 'x', extra);
    return (int)sgx_dh_responder_proc_msg2((const sgx_dh_msg2_t *)message, msg3, &session,
                                           (sgx_key_128bit_t *)key,
                                           (sgx_dh_session_enclave_identity_t *)identity);
}

int end(int version, const uint8_t *message, uint8_t *key, uint8_t *identity)
{
    const sgx_dh_msg3_t *msg3 = (const sgx_dh_msg3_t *)message;
    sgx_dh_session_enclave_identity_t *other = (sgx_dh_session_enclave_identity_t *)identity;
    if (version == 2)
        return (int)sgx_LAv2_initiator_proc_msg3(msg3, &session, (sgx_key_128bit_t *)key, other);
    return (int)sgx_dh_initiator_proc_msg3(msg3, &session, (sgx_key_128bit_t *)key, other);
}

int outside(void *elsewhere)
{
    return (int)sgx_dh_init_session(SGX_DH_SESSION_INITIATOR, elsewhere);
}
