/* SPDX-License-Identifier: Apache-2.0 */
/* Somebody else's responder: it follows the protocol, and takes anybody for an initiator. */
#include "responder_t.h"

#include "peer.h"

static sgx_dh_session_t exchange;

int invite(sgx_dh_msg1_t *first)
{
    peer_close();
    sgx_status_t status = sgx_dh_init_session(SGX_DH_SESSION_RESPONDER, &exchange);
    return status == SGX_SUCCESS ? (int)sgx_dh_responder_gen_msg1(first, &exchange) : (int)status;
}

int answer_2(const sgx_dh_msg2_t *second, sgx_dh_msg3_t *third)
{
    sgx_key_128bit_t key;
    sgx_dh_session_enclave_identity_t anybody;
    return (int)sgx_dh_responder_proc_msg2(second, third, &exchange, &key, &anybody);
}
