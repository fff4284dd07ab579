// SPDX-License-Identifier: Apache-2.0
// The agent's protocol: frames on the channel, and the records in a frame that describes a process.
// protocol.py is its other side. Whatever comes from there is checked as if an enemy had sent it.
#ifndef ENSCONCE_WIRE_H
#define ENSCONCE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_VERSION = 1,
    HEADER_SIZE = 12,        // size of the payload, stream, kind; each 32 bits, little-endian
    MOST_DATA = 32 * 1024,   // bytes in a frame that carries data, or any other from the guest
    MOST_FRAME = 1 << 20,    // bytes in a frame that describes a process
    WINDOW = 128 * 1024,     // bytes of a stream that are under way at once
};

enum kind {
    // from the host
    POD = 1,
    RUN = 2,
    START = 3,
    INPUT = 4,
    INPUT_END = 5,
    CREDIT = 6,
    SIGNAL = 7,
    RESIZE = 8,
    // from the guest
    READY = 64,
    DONE = 65,
    FAILED = 66,
    OUTPUT = 67,
    ERRORS = 68,
    EXITED = 69,
    TAKEN = 70,
};

struct frame {
    uint32_t size, stream, kind;
    const uint8_t *payload;
};

// A reader that keeps what has come of the next frame.
struct reader {
    uint8_t *buffer;
    size_t have, room;
};

struct cursor {
    const uint8_t *at;
    size_t left;
    bool bad;
};

struct record {
    uint32_t tag, size;
    const uint8_t *bytes;
};

uint32_t get32(const uint8_t *from);
uint64_t get64(const uint8_t *from);
void put32(uint8_t *to, uint32_t value);

// Return 1 and the frame where a whole one is there, 0 where more must come, -1 where it is no frame.
int next_frame(const struct reader *reader, struct frame *frame);
void drop_frame(struct reader *reader, const struct frame *frame);

// Return whether there was a record; a malformed one sets `bad`.
bool next_record(struct cursor *cursor, struct record *record);
uint32_t take32(struct cursor *cursor);
uint64_t take64(struct cursor *cursor);
const char *take_text(struct cursor *cursor);  // ends with NUL inside the record, or sets `bad`
const char *record_text(const struct record *record, bool *bad);

#endif
