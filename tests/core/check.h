/* SPDX-License-Identifier: Apache-2.0 */
/* Assertions and one small enclave for the tests in C. */
#ifndef ENSCONCE_CHECK_H
#define ENSCONCE_CHECK_H

#include "core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

enum { CODE = 0, DATA = 0x1000, TCS = 0x2000, SSA = 0x3000, SIZE = 0x8000 };

struct small {
    struct core_memory memory;
    struct core_enclave enclave;
    uint64_t base, tcs;
};

static inline int done_leaf(struct core_frame *f) {
    f->gpr[CORE_RIP] += 3;
    return CORE_DONE;
}

static inline int no_fault(struct core_enclave *enclave, uint64_t address, uint32_t *error_code,
                           uint32_t function) {
    (void)enclave, (void)address, (void)error_code, (void)function;
    return CORE_DELIVER;
}

static inline void small_open(struct small *s, const void *code, size_t size,
                              const struct core_operations *operations) {
    struct core_tcs tcs = {.offset = TCS, .ossa = SSA, .nssa = 3};
    CHECK(core_init() == 0);
    CHECK(core_reserve(SIZE, &s->base) == 0);
    CHECK(core_memory_open(&s->memory, s->base, SIZE) == 0);
    memcpy(s->memory.alias, code, size);
    CHECK(core_memory_protect(&s->memory, CODE, CORE_PAGE, 5) == 0);
    CHECK(core_memory_protect(&s->memory, DATA, CORE_PAGE, 3) == 0);
    CHECK(core_memory_protect(&s->memory, SSA, 3 * CORE_PAGE, 3) == 0);
    CHECK(core_enclave_open(&s->enclave, &s->memory, 1, 1, 4, core_xcr0() & 0xe7, operations,
                            NULL) == 0);
    CHECK(core_tcs_set(&s->enclave, &tcs) == 0);
    s->enclave.enabled = true;
    s->tcs = s->base + TCS;
}

static inline void small_close(struct small *s) {
    CHECK(core_enclave_close(&s->enclave) == 0);
    core_memory_close(&s->memory);
    CHECK(core_release(s->base, SIZE) == 0);
}

#endif
