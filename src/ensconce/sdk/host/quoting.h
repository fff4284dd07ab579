/* SPDX-License-Identifier: Apache-2.0 */
/* The platform's quoting role, as the libraries that make quotes ask for it. */
#ifndef ENSCONCE_QUOTING_H
#define ENSCONCE_QUOTING_H

#include "sgx_quote.h"

enum { QUOTE_DESCRIBE = 1, QUOTE_MAKE, QUOTE_PROVE };
enum { QUOTE_DONE, QUOTE_BAD_REPORT };
enum { QUOTE_KEY_BASE = sizeof(sgx_ql_att_key_id_t), QUOTE_HASH = 32, QUOTE_LARGEST = 1 << 15 };

/* What a client must know of the role. */
struct quoter {
    sgx_att_key_id_ext_t key, other_name; /* whoever asks for the second means the first */
    sgx_target_info_t target;
    uint8_t key_hash[QUOTE_HASH];
    uint32_t quote_size;
} __attribute__((packed));

/* Connect to the role, starting its service where it is not there, and learn who it is.
 * Returns a socket or a negative errno: -ETIMEDOUT where there is no answer in time, -ENOMEM, and
 * any other where there is no service. */
int quoting_open(struct quoter *quoter);
void quoting_close(int socket);

/* Make a quote of a REPORT, of at most `size` bytes, which must be those that the role said; with
 * `info` have it proven in there too. Returns a QUOTE_ status or a negative errno as above. What
 * the caller gets is written only where that is QUOTE_DONE. */
int quoting_make(int socket, const sgx_report_t *report, sgx_qe_report_info_t *info,
                 uint8_t *quote, uint32_t size);

#endif
