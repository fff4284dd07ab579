/* SPDX-License-Identifier: Apache-2.0 */
/* A run-time whose host is hostile: all it owns changes whenever it is read, and only the copying
 * functions can reach it. The addresses that bridges see are PROT_NONE; the content is mapped
 * elsewhere. Whatever crosses the border is written down.
 *
 *   | host | slot guard | slot guard | ... | host |
 *          ^ the enclave: one allocation in each slot, its end at the guard page
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "mbusafecrt.h"
#include "sgx_edger8r.h"
#include "sgx_lfence.h"
#include "sgx_trts.h"

enum { PAGE = 4096, HOST = 8 * PAGE, SLOT = 4 * PAGE, SLOTS = 48, CANARY = 64 };
enum { ENCLAVE = SLOTS * (SLOT + PAGE), EVENTS = 4096, DATA = 1 << 20 };

struct event {
    uint64_t kind, address, size, at; /* kind: r(ead) w(rite) c(all out) f(ence); data from `at` */
};

struct event events[EVENTS];
uint64_t event_count, data_used;
uint8_t data[DATA];
uint8_t arguments[DATA]; /* what the trusted function got, one parameter after another */
uint64_t arguments_used;
uint8_t results[DATA]; /* what the trusted function is to return */
uint8_t *enclave, *host_low, *host_high; /* as bridges see them */
uint8_t low_content[HOST], high_content[HOST];
uint64_t live, open_frames, faults, fault_address, stack_used, redirected, redirection;
int failing; /* the allocation that fails, counted from 1 */
const char *broken; /* what the bridge did that it never may */
sgx_status_t (*host)(unsigned int index, void *ms);
void (*trusted)(unsigned int index);
uint8_t counters[1 << 16];

static size_t sizes[SLOTS];
static uint8_t used[SLOTS];
static sigjmp_buf escape;
static volatile sig_atomic_t guarding;
static uintptr_t stack;

static int in(const void *address, const uint8_t *base, size_t size)
{
    return (uintptr_t)address - (uintptr_t)base < size;
}

static int is_trusted(const void *address)
{
    return in(address, enclave, ENCLAVE) || stack - (uintptr_t)address < 1 << 20 ||
           address == &errno;
}

static void blame(const char *what)
{
    if (broken == NULL) broken = what;
}

static uint8_t *content(uintptr_t address)
{
    if (in((void *)address, host_low, HOST)) return low_content + (address - (uintptr_t)host_low);
    if (in((void *)address, host_high, HOST)) return high_content + (address - (uintptr_t)host_high);
    return NULL;
}

static uint8_t *note(char kind, const void *address, size_t size, size_t kept)
{
    uint8_t *place = data + data_used;
    if (event_count == EVENTS || kept > DATA - data_used) {
        blame("more crosses the border than can be written down");
        return NULL;
    }
    events[event_count++] = (struct event){(uint64_t)kind, (uint64_t)address, size, data_used};
    data_used += kept;
    return place;
}

/* Memory of the enclave */

static uint8_t *slot(size_t index) { return enclave + index * (SLOT + PAGE); }

void *enclave_malloc(size_t size)
{
    size_t padded = (size + 15) & ~(size_t)15;
    if (failing != 0 && --failing == 0) return NULL;
    for (size_t i = 0; i < SLOTS && size <= SLOT - CANARY; i++) {
        if (used[i]) continue;
        used[i] = 1;
        sizes[i] = size;
        live++;
        memset(slot(i) + SLOT - padded - CANARY, 0xEE, padded + CANARY);
        return slot(i) + SLOT - padded;
    }
    return NULL;
}

void *enclave_calloc(size_t count, size_t size)
{
    void *block = size != 0 && count > SLOT / size ? NULL : enclave_malloc(count * size);
    return block == NULL ? NULL : memset(block, 0, count * size);
}

/* The size of the live block that begins at an address, -1 when none does. */
int64_t block_size(const void *block)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (used[i] && block == slot(i) + SLOT - ((sizes[i] + 15) & ~(size_t)15))
            return (int64_t)sizes[i];
    return -1;
}

void enclave_free(void *block)
{
    int64_t size = block_size(block);
    if (block == NULL) return;
    if (size < 0) {
        blame("it freed what is no block, or twice");
        return;
    }
    for (uint8_t *at = (uint8_t *)block - CANARY; at < (uint8_t *)block; at++)
        if (*at != 0xEE) blame("it wrote before a block");
    for (uint8_t *at = (uint8_t *)block + size; (uintptr_t)at % 16 != 0; at++)
        if (*at != 0xEE) blame("it wrote behind a block");
    used[((uint8_t *)block - enclave) / (SLOT + PAGE)] = 0;
    live--;
}

/* The trusted run-time, with the bounds of the real one */

static int last_byte(uintptr_t start, size_t size, uintptr_t *last)
{
    *last = size == 0 ? start : start + (size - 1);
    return *last >= start;
}

int sgx_is_within_enclave(const void *address, size_t size)
{
    uintptr_t start = (uintptr_t)address, last, base = (uintptr_t)enclave;
    return last_byte(start, size, &last) && start >= base && last <= base + (ENCLAVE - 1);
}

int sgx_is_outside_enclave(const void *address, size_t size)
{
    uintptr_t start = (uintptr_t)address, last, base = (uintptr_t)enclave;
    return last_byte(start, size, &last) && (last < base || start > base + (ENCLAVE - 1));
}

void sgx_lfence(void) { note('f', NULL, 0, 0); }

/* Reads the host's memory, which is another as soon as it was read. */
static void read_host(uint8_t *target, const void *source, size_t size)
{
    uint8_t *copy = note('r', source, size, size);
    if (!sgx_is_outside_enclave(source, size)) blame("it read across the border");
    for (size_t i = 0; copy != NULL && i < size; i++) {
        uintptr_t address = (uintptr_t)source + i;
        uint8_t *byte = content(address);
        copy[i] = byte != NULL ? *byte : (uint8_t)(address * 0x9E37 + event_count);
        target[i] = copy[i];
        if (byte != NULL) *byte = (uint8_t)(*byte * 5 + 0x3B); /* never what it was */
    }
}

static void write_host(void *target, const uint8_t *source, size_t size)
{
    uint8_t *copy = note('w', target, size, size);
    if (!sgx_is_outside_enclave(target, size)) blame("it wrote a result into the enclave");
    for (size_t i = 0; copy != NULL && i < size; i++) {
        uint8_t *byte = content((uintptr_t)target + i);
        copy[i] = source[i];
        if (byte != NULL) *byte = source[i];
    }
}

errno_t memcpy_s(void *target, size_t room, const void *source, size_t size)
{
    if (target == NULL || source == NULL || size > room) return 22;
    if (!is_trusted(target))
        blame("it copied in to where the host can write");
    else if (is_trusted(source))
        memmove(target, source, size);
    else
        read_host(target, source, size);
    return 0;
}

errno_t memcpy_verw_s(void *target, size_t room, const void *source, size_t size)
{
    if (target == NULL || source == NULL || size > room) return 22;
    if (is_trusted(source))
        write_host(target, source, size);
    else
        blame("it copied out from where the host can write");
    return 0;
}

void *memset_verw(void *target, int value, size_t size)
{
    static uint8_t filled[DATA];
    if (size > DATA) blame("it zeroed more than can be");
    else write_host(target, memset(filled, value, size), size);
    return target;
}

void *sgx_ocalloc(size_t size)
{
    size_t padded = (size + 15) & ~(size_t)15;
    open_frames++;
    if (redirected) return (void *)redirection;
    if (size > HOST || padded > HOST - stack_used) return NULL;
    stack_used += padded;
    return host_high + stack_used - padded;
}

void sgx_ocfree(void) { open_frames = stack_used = 0; }

sgx_status_t sgx_ocall(const unsigned int index, void *ms)
{
    sgx_status_t status;
    note('c', ms, 0, 0);
    guarding = 0;
    status = host(index, ms);
    guarding = 1;
    return status;
}

sgx_status_t sgx_ocall_switchless(const unsigned int index, void *ms)
{
    return sgx_ocall(index, ms);
}

/* What the generated trusted functions call */

void got(const void *argument, size_t size)
{
    memcpy(arguments + arguments_used, argument, size);
    arguments_used += size;
}

void act(unsigned int index, void *result, size_t size)
{
    note('t', NULL, 0, 0);
    guarding = 0;
    trusted(index);
    guarding = 1;
    memcpy(result, results, size);
}

/* Calls of the test */

static const int signals[] = {SIGSEGV, SIGBUS, SIGILL};
static struct sigaction others[3];

static void fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (!guarding) { /* the test's own fault, which no bridge made */
        sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
        return;
    }
    fault_address = (uint64_t)info->si_addr;
    siglongjmp(escape, signal);
}

int guarded(int (*function)(void *), void *argument)
{
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO};
    int status;
    for (int i = 0; i < 3; i++) sigaction(signals[i], &action, &others[i]);
    stack = (uintptr_t)&status;
    faults = (uint64_t)sigsetjmp(escape, 1);
    guarding = faults == 0;
    status = guarding ? function(argument) : -1;
    guarding = 0;
    for (int i = 0; i < 3; i++) sigaction(signals[i], &others[i], NULL);
    return status;
}

void reset(void)
{
    memset(used, 0, sizeof used);
    event_count = data_used = arguments_used = live = open_frames = stack_used = redirected = 0;
    faults = fault_address = 0;
    failing = 0;
    broken = NULL;
}

int prepare(void)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    uint8_t *space = mmap(NULL, 2 * HOST + ENCLAVE, PROT_NONE, flags, -1, 0);
    if (space == MAP_FAILED) return -1;
    host_low = space;
    enclave = space + HOST;
    host_high = enclave + ENCLAVE;
    for (size_t i = 0; i < SLOTS; i++)
        if (mprotect(slot(i), SLOT, PROT_READ | PROT_WRITE)) return -1;
    return 0;
}

extern char __ehdr_start;
void __sanitizer_cov_trace_pc(void)
{
    counters[((char *)__builtin_return_address(0) - &__ehdr_start) % sizeof counters]++;
}
