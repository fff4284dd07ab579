/* SPDX-License-Identifier: Apache-2.0 */
/* The side that is asked: message 1 goes out, message 2 comes in, message 3 goes out. */
#include "responder_t.h"

#include <mbusafecrt.h>
#include <string.h>

#include "peer.h"

static sgx_dh_session_t exchange;

int invite(sgx_dh_msg1_t *first)
{
    peer_close();
    sgx_status_t status = sgx_dh_init_session(SGX_DH_SESSION_RESPONDER, &exchange);
    if (status != SGX_SUCCESS) return (int)status;
    return (int)sgx_dh_responder_gen_msg1(first, &exchange);
}

int answer_2(const sgx_dh_msg2_t *second, sgx_dh_msg3_t *third)
{
    sgx_key_128bit_t key;
    sgx_dh_session_enclave_identity_t initiator;
    /* An [out] buffer starts as zeros: there are no additional properties to send. */
    sgx_status_t status =
        sgx_dh_responder_proc_msg2(second, third, &exchange, &key, &initiator);
    if (status == SGX_SUCCESS) status = peer_accept(RESPONDER, &key, &initiator);
    /* A stranger gets no message 3, and so never learns that the key exchange worked. */
    if (status != SGX_SUCCESS && third != NULL) memset(third, 0, sizeof *third);
    memset_s(key, sizeof key, 0, sizeof key);
    return (int)status;
}
