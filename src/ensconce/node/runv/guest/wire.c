// SPDX-License-Identifier: Apache-2.0
#include "wire.h"

#include <string.h>

uint32_t get32(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

uint64_t get64(const uint8_t *from) {
    return get32(from) | (uint64_t)get32(from + 4) << 32;
}

void put32(uint8_t *to, uint32_t value) {
    for (int each = 0; each < 4; each++)
        to[each] = (uint8_t)(value >> (8 * each));
}

int next_frame(const struct reader *reader, struct frame *frame) {
    if (reader->have < HEADER_SIZE)
        return 0;
    frame->size = get32(reader->buffer);
    frame->stream = get32(reader->buffer + 4);
    frame->kind = get32(reader->buffer + 8);
    uint32_t most = frame->kind == RUN || frame->kind == POD ? MOST_FRAME : MOST_DATA;
    if (frame->size > most || frame->size > reader->room - HEADER_SIZE)
        return -1;
    if (reader->have - HEADER_SIZE < frame->size)
        return 0;
    frame->payload = reader->buffer + HEADER_SIZE;
    return 1;
}

void drop_frame(struct reader *reader, const struct frame *frame) {
    size_t whole = HEADER_SIZE + (size_t)frame->size;
    memmove(reader->buffer, reader->buffer + whole, reader->have - whole);
    reader->have -= whole;
}

bool next_record(struct cursor *cursor, struct record *record) {
    if (cursor->bad || cursor->left == 0)
        return false;
    if (cursor->left < 8) {
        cursor->bad = true;
        return false;
    }
    record->tag = get32(cursor->at);
    record->size = get32(cursor->at + 4);
    record->bytes = cursor->at + 8;
    if (record->size > cursor->left - 8) {
        cursor->bad = true;
        return false;
    }
    cursor->at += 8 + (size_t)record->size;
    cursor->left -= 8 + (size_t)record->size;
    return true;
}

uint32_t take32(struct cursor *cursor) {
    if (cursor->bad || cursor->left < 4) {
        cursor->bad = true;
        return 0;
    }
    uint32_t value = get32(cursor->at);
    cursor->at += 4;
    cursor->left -= 4;
    return value;
}

uint64_t take64(struct cursor *cursor) {
    uint64_t low = take32(cursor);
    return low | (uint64_t)take32(cursor) << 32;
}

const char *take_text(struct cursor *cursor) {
    const uint8_t *end = cursor->bad ? NULL : memchr(cursor->at, 0, cursor->left);
    if (!end) {
        cursor->bad = true;
        return "";
    }
    const char *text = (const char *)cursor->at;
    size_t whole = (size_t)(end - cursor->at) + 1;
    cursor->at += whole;
    cursor->left -= whole;
    return text;
}

const char *record_text(const struct record *record, bool *bad) {
    struct cursor cursor = {record->bytes, record->size, false};
    const char *text = take_text(&cursor);
    if (cursor.bad || cursor.left)
        *bad = true;
    return text;
}
