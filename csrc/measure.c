/* SPDX-License-Identifier: Apache-2.0 */
/* The records that MRENCLAVE is a hash of (SDM vol. 3D, EADD and EEXTEND). */
#include "core.h"

#include <string.h>

enum { RECORD = 64, CHUNK = 256 };

static uint8_t *put(uint8_t *out, const char name[8], uint64_t first, uint64_t second) {
    memset(out, 0, RECORD);
    memcpy(out, name, 8);
    memcpy(out + 8, &first, sizeof first);
    memcpy(out + 16, &second, sizeof second);
    return out + RECORD;
}

/* Write the records of `count` consecutive pages: EADD each, and 16 EEXTENDs with their data each
 * where `pages` has the contents. Returns the bytes written, 64 or 5184 for a page. */
size_t core_fill_measurement(uint8_t *out, uint64_t offset, uint64_t flags, const uint8_t *pages,
                             uint64_t count) {
    static const char add[8] = "EADD", extend[8] = "EEXTEND";
    uint8_t *at = out;

    for (uint64_t page = 0; page < count; page++, offset += CORE_PAGE) {
        at = put(at, add, offset, flags);
        for (uint64_t chunk = 0; pages && chunk < CORE_PAGE; chunk += CHUNK) {
            at = put(at, extend, offset + chunk, 0);
            memcpy(at, pages + page * CORE_PAGE + chunk, CHUNK);
            at += CHUNK;
        }
    }
    return (size_t)(at - out);
}
