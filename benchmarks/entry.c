/* SPDX-License-Identifier: Apache-2.0 */
/* How long EENTER + EEXIT takes, beside the host's own cost of a fault taken by a signal handler.
 * Build: gcc -std=c11 -O2 -D_GNU_SOURCE -Icsrc benchmarks/entry.c \
 *        $(ls csrc/[a-z]*.c | grep -v -e csrc/py_ -e csrc/module) -o entry && ./entry */
#include "core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 200000, CODE = 0, TCS = 0x1000, SSA = 0x2000, SIZE = 0x8000 };

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int ascending(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static void print(const char *name, uint32_t *times) {
    qsort(times, ROUNDS, sizeof *times, ascending);
    printf("%-34s p1 %5u  p50 %5u  p99 %5u ns\n", name, times[ROUNDS / 100], times[ROUNDS / 2],
           times[ROUNDS - ROUNDS / 100]);
}

static int leaf(struct core_frame *f) {
    f->gpr[CORE_RIP] += 3;
    return CORE_DONE;
}

static int fault(struct core_enclave *enclave, uint64_t address, uint32_t *code, uint32_t function) {
    (void)enclave, (void)address, (void)code, (void)function;
    return CORE_DELIVER;
}

int main(void) {
    /* mov %rcx,%rbx; test %edi,%edi; jz 1f; xor %eax,%eax; enclu; 1: mov $4,%eax; enclu */
    static const uint8_t code[] = {0x48, 0x89, 0xcb, 0x85, 0xff, 0x74, 0x05, 0x31, 0xc0, 0x0f, 0x01,
                                   0xd7, 0xb8, 0x04, 0,    0,    0,    0x0f, 0x01, 0xd7};
    static const struct core_operations operations = {leaf, fault};
    static uint32_t times[ROUNDS];
    struct core_memory memory;
    struct core_enclave enclave;
    struct core_call call;
    struct core_tcs tcs = {.offset = TCS, .ossa = SSA, .nssa = 2};
    uint64_t base;

    if (core_init() || core_reserve(SIZE, &base) || core_memory_open(&memory, base, SIZE))
        return 1;
    memcpy(memory.alias + CODE, code, sizeof code);
    if (core_memory_protect(&memory, CODE, CORE_PAGE, 5) ||
        core_memory_protect(&memory, SSA, 2 * CORE_PAGE, 3) ||
        core_enclave_open(&enclave, &memory, 1, 0, 4, core_xcr0() & 0xe7, &operations, NULL) ||
        core_tcs_set(&enclave, &tcs) || core_call_open(&call, (uint64_t)core_enter_enclave, 1 << 20))
        return 1;
    enclave.enabled = true;
    printf("ENCLU %s here\n", core_rewrites_enclu ? "is rewritten: #UD is slow" : "stays as it is");
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t before = now();
        core_raise_gp();
        times[i] = (uint32_t)(now() - before);
    }
    print("host: #GP, handler, return", times);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t before = now();
        if (core_call_enter(&call, CORE_EENTER, base + TCS, 0, 0, 0) != 0)
            return 1;
        times[i] = (uint32_t)(now() - before);
    }
    print("EENTER + EEXIT", times);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t before = now();
        if (core_call_enter(&call, CORE_EENTER, base + TCS, 1, 0, 0) != 0)
            return 1;
        times[i] = (uint32_t)(now() - before);
    }
    print("EENTER + empty leaf + EEXIT", times);
    return 0;
}
