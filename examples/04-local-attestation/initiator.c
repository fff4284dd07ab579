/* SPDX-License-Identifier: Apache-2.0 */
/* The side that starts: message 1 comes in, message 2 goes out, message 3 comes in. */
#include "initiator_t.h"

#include <mbusafecrt.h>
#include <string.h>

#include "peer.h"

static sgx_dh_session_t exchange;

int answer_1(const sgx_dh_msg1_t *first, sgx_dh_msg2_t *second)
{
    peer_close();
    sgx_status_t status = sgx_dh_init_session(SGX_DH_SESSION_INITIATOR, &exchange);
    if (status != SGX_SUCCESS) return (int)status;
    return (int)sgx_dh_initiator_proc_msg1(first, second, &exchange);
}

int finish(const sgx_dh_msg3_t *third)
{
    sgx_key_128bit_t key;
    sgx_dh_session_enclave_identity_t responder;
    sgx_status_t status = sgx_dh_initiator_proc_msg3(third, &exchange, &key, &responder);
    if (status == SGX_SUCCESS) status = peer_accept(INITIATOR, &key, &responder);
    memset_s(key, sizeof key, 0, sizeof key);
    return (int)status;
}
