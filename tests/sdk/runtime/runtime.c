/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave that does what an enclave's author might, to see whether the runtime stands it. */
#include "runtime_t.h"

#include <emmintrin.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sgx_trts.h"
#include "sgx_trts_exception.h"
#include "sgx_utils.h"

extern uint32_t tee_refused_syscalls[];

static int constructor_runs;
static int seen;
static uint64_t seen_address;
static void *handler;
static int *pointer_to_be_relocated = &constructor_runs;
static __thread int per_thread = 40;

static pthread_key_t key;

__attribute__((constructor)) static void construct(void)
{
    constructor_runs++;
    pthread_key_create(&key, NULL);
}

/* Write and read one key again and again, beside other threads: the sum of what was not ours. */
uint64_t keyed_in_thread(uint64_t value, int rounds)
{
    uint64_t foreign = (uint64_t)pthread_getspecific(key);
    for (int i = 0; i < rounds; i++) {
        pthread_setspecific(key, (void *)value);
        foreign += (uint64_t)pthread_getspecific(key) - value;
    }
    return foreign;
}

int constructed(void)
{
    return *pointer_to_be_relocated;
}

int next_in_thread(int step)
{
    return per_thread += step;
}

/* A checksum over blocks that are grown, shrunk and freed in turn. */
uint64_t allocate(size_t size, int rounds)
{
    unsigned char *block[16] = {0};
    uint64_t sum = 0;
    for (int i = 0; i < rounds; i++) {
        int slot = i * 7 % 16;
        size_t want = size * (1 + (size_t)(i % 5));
        unsigned char *grown = realloc(block[slot], want);
        if (grown == NULL) return 0;
        memset(grown, i, want);
        block[slot] = grown;
        sum += grown[want - 1];
        if (i % 3 == 0) {
            free(block[slot]);
            block[slot] = calloc(1, want);
            if (block[slot] == NULL) return 0;
            for (size_t at = 0; at < want; at++) sum += block[slot][at];
        }
    }
    for (int i = 0; i < 16; i++) free(block[i]);
    return sum;
}

/* Step over the faulting instruction (its length is in RBX), with 77 in RAX. */
static int rescue_by_rbx(sgx_exception_info_t *info)
{
    int ignored;
    seen = info->exception_vector;
    seen_address = info->exinfo.faulting_address;
    if (info->exception_vector == SGX_EXCEPTION_VECTOR_BP ||
        info->exinfo.faulting_address == 16) /* one address that nobody may rescue from */
        return EXCEPTION_CONTINUE_SEARCH;
    host(&ignored, 1000 + (int)info->exception_vector);
    info->cpu_context.rip += info->cpu_context.rbx;
    info->cpu_context.rax = 77;
    return EXCEPTION_CONTINUE_EXECUTION;
}

static void prepare(int rescue)
{
    if (rescue && handler == NULL) handler = sgx_register_exception_handler(1, rescue_by_rbx);
}

int divide(int left, int right, int rescue)
{
    int quotient = left;
    prepare(rescue);
    /* The flags, a vector register and the red zone must all be as before, afterwards. */
    uint64_t intact;
    __asm__ __volatile__("movq $0x1234567, -16(%%rsp)\n\t"
                         "movq -16(%%rsp), %%xmm7\n\t"
                         "cltd\n\t"
                         "idivl %2\n\t"
                         "movq %%xmm7, %1\n\t"
                         "xorq -16(%%rsp), %1"
                         : "+a"(quotient), "=&r"(intact)
                         : "c"(right), "b"(2L)
                         : "rdx", "xmm7", "cc", "memory");
    return intact == 0 ? quotient : -1;
}

int read_at(uint64_t address, int rescue)
{
    int64_t result = 0;
    prepare(rescue);
    __asm__ __volatile__("movl (%%rcx), %%eax" : "+a"(result) : "b"(2L), "c"(address) : "memory");
    return (int)result;
}

uint64_t address_seen(void)
{
    return seen_address;
}

int verify_own_report(uint32_t changed)
{
    sgx_target_info_t target;
    sgx_report_t report;
    sgx_self_target(&target);
    if (sgx_create_report(&target, NULL, &report) != SGX_SUCCESS) return -1;
    if (changed < sizeof report) ((uint8_t *)&report)[changed] ^= 1;
    return (int)sgx_verify_report(&report);
}

int derive(uint16_t name, uint16_t policy, uint16_t isv_svn, uint8_t *key)
{
    sgx_key_request_t request = {.key_name = name, .key_policy = policy, .isv_svn = isv_svn};
    sgx_key_128bit_t derived;
    int status = (int)sgx_get_key(&request, &derived);
    memcpy(key, derived, sizeof derived);
    return status;
}

int undefined(int rescue)
{
    uint64_t result = 0;
    prepare(rescue);
    __asm__ __volatile__("ud2" : "+a"(result) : "b"(2L) : "memory");
    return (int)result;
}

int breakpoint(void)
{
    __asm__ __volatile__("int3");
    return 1;
}

void give_up(void)
{
    abort();
}

void smash_stack(size_t size)
{
    char small[16];
    memset(*(char *volatile *)&(char *){small}, 0x41, size);
}

uint64_t recurse(uint64_t depth)
{
    volatile char room[4096];
    room[depth % sizeof room] = 1;
    return depth == 0 ? 0 : recurse(depth - 1) + (uint64_t)room[depth % sizeof room];
}

int inner(int value)
{
    return value * 2;
}

int call_out(int value)
{
    int result = -1;
    return host(&result, value) == SGX_SUCCESS ? result : -2;
}

int64_t vector_state_survives(void)
{
    /* Callee-saved state across an OCALL: rounding mode and x87 precision. */
    uint32_t mxcsr = _mm_getcsr(), changed = mxcsr ^ 0x6000;
    uint16_t x87, x87_after;
    int result = 0;
    _mm_setcsr(changed);
    __asm__ __volatile__("fnstcw %0" : "=m"(x87));
    x87 ^= 0x0c00;
    __asm__ __volatile__("fldcw %0" ::"m"(x87));
    host(&result, 1);
    __asm__ __volatile__("fnstcw %0" : "=m"(x87_after));
    int64_t good = _mm_getcsr() == changed && x87_after == x87;
    _mm_setcsr(mxcsr);
    return good;
}

uint32_t control_words(void)
{
    uint16_t x87;
    uint64_t flags;
    __asm__ __volatile__("fnstcw %0\n\tpushfq\n\tpopq %1" : "=m"(x87), "=r"(flags));
    return (uint32_t)x87 << 16 | (_mm_getcsr() & 0xffc0) | (flags & 0x40400 ? 1 : 0);
}

uint32_t refused(int number, int times)
{
    uint32_t before = tee_refused_syscalls[number];
    for (int i = 0; i < times; i++) syscall(number, 0, 0, 0);
    return tee_refused_syscalls[number] - before;
}

int ranges(void)
{
    char here[16];
    const char *top = (const char *)~0ull;
    return sgx_is_within_enclave(here, sizeof here) && !sgx_is_outside_enclave(here, 1) &&
           !sgx_is_within_enclave(here, ~0ull) && !sgx_is_outside_enclave(here, ~0ull) &&
           !sgx_is_within_enclave(top, 16) && !sgx_is_outside_enclave(top, 16) &&
           sgx_is_outside_enclave((void *)4096, 16) && !sgx_is_within_enclave(NULL, 0);
}

size_t lend(size_t size)
{
    uint8_t *bytes = calloc(1, size + 1);
    sgx_status_t status = bytes == NULL ? SGX_ERROR_OUT_OF_MEMORY : ignore(bytes, size);
    free(bytes);
    return (size_t)status;
}

int exceptions_seen(void)
{
    return seen;
}

int forget_handlers(void)
{
    int known = sgx_unregister_exception_handler(handler);
    handler = NULL;
    return known;
}
