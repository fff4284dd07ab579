/* SPDX-License-Identifier: Apache-2.0 */
/* The host library's end of the platform service: see ensconce/platform/wire.py. */
#ifndef ENSCONCE_SERVICE_H
#define ENSCONCE_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SERVICE_VERSION = 1, SERVICE_LOAD = 1, SERVICE_ATTACH = 2, SERVICE_QUOTE = 3 };
enum { SERVICE_DEBUG = 1, SERVICE_KSS = 2 }; /* flags */
enum { SERVICE_TOKEN = 16, SERVICE_CONTENT = 1 << 17 };

enum {
    COMMAND_RESERVE = 1,
    COMMAND_OPEN,
    COMMAND_PROTECT,
    COMMAND_SET_TCS,
    COMMAND_BLOCK_TCS,
    COMMAND_REMOVE_TCS,
    COMMAND_TCS,
    COMMAND_SET_CSSA,
    COMMAND_ADVANCE_EPOCH,
    COMMAND_INSIDE_BEFORE,
    COMMAND_KICK,
    COMMAND_ENABLE,
    COMMAND_LOADED,
    COMMAND_FAILED,
};

enum { REQUEST_LEAF = 1, REQUEST_FAULT, REQUEST_CPUID, REQUEST_VALUES = 20 };
enum { VERDICT_DONE, VERDICT_FAULT };
enum { VERDICT_DELIVER, VERDICT_RETRY };

struct service_hello {
    char magic[4];
    uint32_t version, kind, flags, config_svn;
    uint8_t token[SERVICE_TOKEN];
    uint8_t config_id[64];
    char name[256];
};

struct service_command {
    uint32_t command, length;
    uint64_t argument[8];
    uint8_t content[SERVICE_CONTENT];
};

struct service_answer {
    uint32_t command;
    int32_t error;
    uint64_t value[4];
};

struct service_request {
    uint32_t request;
    int32_t verdict;
    uint64_t value[REQUEST_VALUES];
};

/* Connect and greet, with a file if `file` is not negative; the service is started if it is not
 * there and `start` says so. Returns a socket or a negative errno. */
int service_connect(const struct service_hello *hello, int file, bool start);

/* Receive the next command, and in *file the descriptor it brings or -1. Returns 0 or -EPIPE. */
int service_receive(int socket, struct service_command *command, int *file);
int service_answer(int socket, const struct service_answer *answer);

/* Send a request and replace it by its answer. Returns 0 or -EPIPE. */
int service_ask(int socket, struct service_request *request);

#endif
