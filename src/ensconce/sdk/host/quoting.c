/* SPDX-License-Identifier: Apache-2.0 */
/* Ask the platform service for quotes. Each call has a connection of its own, so any thread and
 * any forked child may make one; see ensconce/platform/wire.py for the messages. */
#include "quoting.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "service.h"

enum { PATIENCE = 15 }; /* seconds, as the vendor's libraries have for their service */

struct question {
    uint32_t topic, reserved;
    sgx_report_t report;
    sgx_quote_nonce_t nonce;
    sgx_target_info_t target;
} __attribute__((packed));

struct answer {
    uint32_t topic, status, length;
    uint8_t content[QUOTE_LARGEST];
};

_Static_assert(sizeof(struct question) == 968, "as the service has it");
_Static_assert(sizeof(struct quoter) == 1060, "as the service has it");

/* Ask, and return the answer's status or a negative errno. */
static int ask(int socket, const struct question *question, struct answer *answer) {
    const size_t head = offsetof(struct answer, content);
    ssize_t moved;

    do
        moved = send(socket, question, sizeof *question, MSG_NOSIGNAL);
    while (moved < 0 && errno == EINTR);
    if (moved == (ssize_t)sizeof *question) {
        do
            moved = recv(socket, answer, sizeof *answer, 0);
        while (moved < 0 && errno == EINTR);
    }
    if (moved < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -EPIPE;
    if (moved < (ssize_t)head || (size_t)moved - head != answer->length ||
        answer->topic != question->topic || answer->status > QUOTE_BAD_REPORT)
        return -EPIPE;
    return (int)answer->status;
}

static int describe(int socket, struct quoter *quoter) {
    const struct timeval patience = {.tv_sec = PATIENCE};
    const struct question question = {.topic = QUOTE_DESCRIBE};
    struct answer *answer = malloc(sizeof *answer);

    if (!answer)
        return -ENOMEM;
    setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int status = ask(socket, &question, answer);
    if (status == QUOTE_DONE && answer->length != sizeof *quoter)
        status = -EPIPE;
    if (status == QUOTE_DONE)
        memcpy(quoter, answer->content, sizeof *quoter);
    free(answer);
    return status > 0 ? -EPIPE : status;
}

int quoting_open(struct quoter *quoter) {
    const struct service_hello hello = {
        .magic = "ensc", .version = SERVICE_VERSION, .kind = SERVICE_QUOTE};
    int error = -EPIPE;

    /* Once more where a service took the connection and ended, having been idle for long. */
    for (int attempt = 0; attempt < 2 && error == -EPIPE; attempt++) {
        int socket = service_connect(&hello, -1, true);
        if (socket < 0)
            return socket;
        error = describe(socket, quoter);
        if (!error)
            return socket;
        close(socket);
    }
    return error;
}

void quoting_close(int socket) {
    close(socket);
}

int quoting_make(int socket, const sgx_report_t *report, sgx_qe_report_info_t *info,
                 uint8_t *quote, uint32_t size) {
    struct question question = {.topic = info ? QUOTE_PROVE : QUOTE_MAKE, .report = *report};
    const size_t proof = info ? sizeof info->qe_report : 0;
    struct answer *answer = malloc(sizeof *answer);

    if (!answer)
        return -ENOMEM;
    if (info) {
        question.nonce = info->nonce;
        question.target = info->app_enclave_target_info;
    }
    int status = ask(socket, &question, answer);
    if (status == QUOTE_DONE && answer->length != proof + size)
        status = -EPIPE;
    if (status == QUOTE_DONE) {
        if (info)
            memcpy(&info->qe_report, answer->content, proof);
        memcpy(quote, answer->content + proof, size);
    }
    free(answer);
    return status;
}
