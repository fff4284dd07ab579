// SPDX-License-Identifier: Apache-2.0
// The channel: frames in, frames out, both without waiting.
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

enum { UNSENT = 4 << 20 };

int channel = -1;
static uint8_t received[MOST_FRAME + HEADER_SIZE];
struct reader incoming = {received, 0, sizeof received};
static uint8_t unsent[UNSENT];
static size_t unsent_from, unsent_to;

size_t room_to_send(void) {
    return UNSENT - (unsent_to - unsent_from);
}

bool has_unsent(void) {
    return unsent_to > unsent_from;
}

void send_frame(uint32_t kind, uint32_t stream, const void *payload, size_t size) {
    if (UNSENT - unsent_to < size + HEADER_SIZE) {
        memmove(unsent, unsent + unsent_from, unsent_to - unsent_from);
        unsent_to -= unsent_from;
        unsent_from = 0;
    }
    if (UNSENT - unsent_to < size + HEADER_SIZE)
        power_off();  // the host has read nothing for megabytes of small messages
    put32(unsent + unsent_to, (uint32_t)size);
    put32(unsent + unsent_to + 4, stream);
    put32(unsent + unsent_to + 8, kind);
    memcpy(unsent + unsent_to + HEADER_SIZE, payload, size);
    unsent_to += HEADER_SIZE + size;
}

void send_number(uint32_t kind, uint32_t stream, uint32_t number) {
    uint8_t bytes[4];
    put32(bytes, number);
    send_frame(kind, stream, bytes, sizeof bytes);
}

void send_text(uint32_t kind, uint32_t stream, const char *text) {
    send_frame(kind, stream, text, strlen(text));
}

void flush_channel(void) {
    while (has_unsent()) {
        ssize_t sent = write(channel, unsent + unsent_from, unsent_to - unsent_from);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return;
        unsent_from += (size_t)sent;
    }
}

void fill_channel(void) {
    ssize_t got = read(channel, received + incoming.have, incoming.room - incoming.have);
    if (got > 0)
        incoming.have += (size_t)got;
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        power_off();  // nobody is at the other end
}
