/* SPDX-License-Identifier: Apache-2.0 */
/* Random code, registers, TCS fields and SSA frames: whatever an enclave does, the host goes on.
 * Arguments: seed, rounds. ELRANGE lies in the middle of a large empty range, so that stray
 * accesses of the enclave, which a processor would let reach the host's memory too, reach none. */
#include "check.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/time.h>

static uint64_t state;
static int leaves, faults, exits, exceptions, given_up;

static uint64_t next(void) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1dull;
}

/* Numbers of the kinds that matter: small, huge, near a page, not canonical. */
static uint64_t number(const struct core_memory *memory) {
    switch (next() % 6) {
    case 0:
        return next() % 16;
    case 1:
        return next();
    case 2:
        return memory->base + next() % (2 * SIZE);
    case 3:
        return (next() % 16) * CORE_PAGE;
    case 4:
        return ~(uint64_t)0 - next() % 64;
    default:
        return 1ull << (next() % 64);
    }
}

static int random_leaf(struct core_frame *f) {
    leaves++;
    if (next() % 8 == 0)
        return CORE_ABORT;
    if (next() % 4 == 0) {
        f->vector = next() % 32;
        f->error_code = (uint32_t)next();
        f->address = next();
        return CORE_FAULT;
    }
    f->gpr[next() % 16] = next();
    return done_leaf(f);
}

static int random_fault(struct core_enclave *enclave, uint64_t address, uint32_t *error_code,
                        uint32_t function) {
    (void)enclave, (void)address, (void)function;
    faults++;
    *error_code |= 0x8000;
    return next() % 16 == 0 ? CORE_RETRY : next() % 16 == 0 ? CORE_GIVE_UP : CORE_DELIVER;
}

static int stop(void *context) {
    (void)context;
    return 1;
}

static void ring(int signal) {
    (void)signal;
}

/* Instructions that are more interesting than chance would have it. */
static void write_code(uint8_t *code, size_t size) {
    static const char *const pieces[] = {
        "\x0f\x01\xd7", "\xb8\x04\x00\x00\x00\x0f\x01\xd7", "\x0f\x05", "\xcd\x80", "\xcc",
        "\x0f\x0b",     "\xf4",                             "\xeb\xfe", "\x9d",     "\xf3\x48\x0f\xae\xd0",
        "\x48\x89\xcb\xb8\x04\x00\x00\x00\x0f\x01\xd7",     "\xfd",     "\x48\xcf", "\x0f\xae\x10",
    };
    static const uint8_t sizes[] = {3, 8, 2, 2, 1, 2, 1, 2, 1, 5, 11, 1, 2, 3};
    for (size_t i = 0; i < size; i++)
        code[i] = (uint8_t)next();
    for (size_t at = next() % 16; at + 16 < size; at += next() % 24) {
        size_t piece = next() % sizeof sizes;
        memcpy(code + at, pieces[piece], sizes[piece]);
    }
}

static void set_random_tcs(struct core_enclave *enclave, const struct core_memory *memory) {
    struct core_tcs tcs = {.offset = TCS, .ossa = SSA, .nssa = 3};
    if (next() % 4 == 0) {
        uint64_t *const fields[] = {&tcs.flags, &tcs.ossa, &tcs.oentry, &tcs.ofsbase, &tcs.ogsbase};
        *fields[next() % 5] = number(memory);
        tcs.cssa = next() % 4;
        tcs.nssa = (uint32_t)number(memory);
    }
    CHECK(core_tcs_set(enclave, &tcs) == 0);
}

static void spoil_frames(const struct core_memory *memory) {
    for (int i = 0; i < 3; i++) {
        uint8_t *frame = memory->alias + SSA + i * CORE_PAGE;
        for (uint64_t many = next() % 8; many; many--) {
            uint64_t word = number(memory);
            uint64_t at = next() % 2 ? CORE_PAGE - 184 + 8 * (next() % 23) : 8 * (next() % 512);
            memcpy(frame + at, &word, sizeof word);
        }
    }
}

static void round_of(struct small *s, struct core_call *call) {
    uint32_t function = next() % 4 ? CORE_EENTER : CORE_ERESUME;
    write_code(s->memory.alias, 512);
    set_random_tcs(&s->enclave, &s->memory);
    if (next() % 2)
        spoil_frames(&s->memory);
    CHECK(core_memory_protect(&s->memory, SSA, CORE_PAGE, next() % 16 ? 3 : 0) == 0);
    int result = core_call_enter(call, function, s->tcs, number(&s->memory), number(&s->memory), 0);
    CHECK(result == 0 || result == 1 || result == -EINTR);
    exits += result == 0;
    exceptions += result == 1;
    given_up += result < 0;
    struct core_tcs tcs;
    CHECK(core_tcs_get(&s->enclave, TCS, &tcs) == 0 && tcs.state == CORE_TCS_IDLE);
}

/* The enclave holds pointers to this stack, too. */
static void put_stack_at(struct core_call *call, uint64_t address) {
    uint64_t size = call->high - call->low;
    core_call_close(call);
    call->map = mmap((void *)address, size, PROT_READ | PROT_WRITE,
                     MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(call->map != MAP_FAILED);
    call->map_size = size;
    call->low = address;
    call->high = address + size;
}

int main(int count, char **arguments) {
    const uint64_t around = 1ull << 33;
    static const struct core_operations operations = {random_leaf, random_fault};
    struct sigaction action = {.sa_handler = ring};
    struct itimerval often = {{0, 700}, {0, 700}}, never = {0};
    struct core_tcs tcs = {.offset = TCS, .ossa = SSA, .nssa = 3};
    struct core_call call;
    struct small s;
    uint64_t base;

    state = (count > 1 ? strtoull(arguments[1], NULL, 0) : 1) * 2 + 1;
    long rounds = count > 2 ? atol(arguments[2]) : 20000;
    CHECK(core_init() == 0 && core_reserve(around, &base) == 0);
    s.base = base + around / 2;
    s.tcs = s.base + TCS;
    CHECK(core_memory_open(&s.memory, s.base, SIZE) == 0);
    CHECK(core_memory_protect(&s.memory, CODE, CORE_PAGE, 7) == 0);
    CHECK(core_memory_protect(&s.memory, DATA, CORE_PAGE, 3) == 0);
    CHECK(core_memory_protect(&s.memory, SSA, 3 * CORE_PAGE, 3) == 0);
    CHECK(core_enclave_open(&s.enclave, &s.memory, 1, 1, 4, core_xcr0() & 0xe7, &operations,
                            NULL) == 0);
    CHECK(core_tcs_set(&s.enclave, &tcs) == 0);
    s.enclave.enabled = true;
    CHECK(core_call_open(&call, (uint64_t)core_enter_enclave, 1 << 20) == 0);
    put_stack_at(&call, s.base + (1 << 24));
    call.interrupted = stop;
    CHECK(core_sigaction(SIGALRM, &action, NULL) == 0);
    setitimer(ITIMER_REAL, &often, NULL);
    for (long i = 0; i < rounds; i++)
        round_of(&s, &call);
    setitimer(ITIMER_REAL, &never, NULL);
    core_call_close(&call);
    CHECK(core_enclave_close(&s.enclave) == 0);
    core_memory_close(&s.memory);
    CHECK(core_release(base, around) == 0);
    printf("ok %d exits, %d exceptions, %d given up, %d leaves, %d faults\n", exits, exceptions,
           given_up, leaves, faults);
    return 0;
}
