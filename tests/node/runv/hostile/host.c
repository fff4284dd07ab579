// SPDX-License-Identifier: Apache-2.0
// A hostile host: frames and descriptions of processes from a file of random bytes, read by the
// agent's own code under sanitizers. Every frame's payload has a block of its exact size.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

static struct plan plan;

static void try_plan(const uint8_t *bytes, size_t size) {
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        abort();
    memcpy(exact, bytes, size);
    if (!read_plan(&plan, exact, size) && (!plan.argument_count || !plan.container))
        abort();
    // what a plan points to ends inside its frame
    for (size_t each = 0; each < plan.argument_count; each++)
        if (plan.arguments[each] && strlen(plan.arguments[each]) >= size)
            abort();
    free(exact);
}

static void try_frames(const uint8_t *bytes, size_t size) {
    uint8_t *room = malloc(MOST_FRAME + HEADER_SIZE);
    if (!room || size > MOST_FRAME)
        abort();
    struct reader reader = {room, size, MOST_FRAME + HEADER_SIZE};
    memcpy(room, bytes, size);
    struct frame frame;
    while (next_frame(&reader, &frame) > 0) {
        try_plan(frame.payload, frame.size);
        drop_frame(&reader, &frame);
    }
    free(room);
}

int main(int count, char **paths) {
    static uint8_t bytes[MOST_FRAME];
    for (int each = 1; each < count; each++) {
        FILE *file = fopen(paths[each], "rb");
        if (!file)
            return 2;
        size_t size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        try_plan(bytes, size);
        try_frames(bytes, size);
    }
    return 0;
}
