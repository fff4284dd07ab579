/* SPDX-License-Identifier: Apache-2.0 */
/* What both sides do once they have a key: decide whom to trust, then encrypt and decrypt. A packet
   that is lost or changed ends the session: attest anew. */
#ifndef PEER_H
#define PEER_H

#define SGX_USE_LAv2_INITIATOR
#include "sgx_dh.h"

/* Statuses of our own. */
#define STRANGER 0x10001 /* the other side is genuine, and nobody we talk to */
#define REPLAYED 0x10002 /* the packet was received before, or comes too early */

/* ISVPRODID tells the two roles apart; an ISVSVN below OLDEST has holes that are known. */
enum product { INITIATOR = 1, RESPONDER = 2 };
#define OLDEST 1

/* Use a new session key, if the enclave at the other end is the one we want. */
sgx_status_t peer_accept(enum product own, const sgx_key_128bit_t *key,
                         const sgx_dh_session_enclave_identity_t *other);

/* Forget the key. */
void peer_close(void);

#endif
