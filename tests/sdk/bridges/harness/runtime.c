/* SPDX-License-Identifier: Apache-2.0 */
/* A run-time to test bridges with: "the enclave" is one array, every event is written down. */
#include <stdint.h>
#include <string.h>

#include "mbusafecrt.h"
#include "sgx_edger8r.h"
#include "sgx_lfence.h"
#include "sgx_trts.h"

#define ROOM (1 << 20)

uint8_t enclave_memory[ROOM] __attribute__((aligned(16)));
uint8_t host_stack[ROOM] __attribute__((aligned(16)));
char events[4096];
int live;            /* blocks allocated and not yet freed */
int failing;         /* the allocation that fails, counted from 1 */
int scribbling;      /* the host overwrites what it passed as soon as it was read */
int stack_is_inside; /* the host's stack pointer points into the enclave */
int open_frames;     /* sgx_ocalloc not yet followed by sgx_ocfree */
sgx_status_t (*host)(unsigned int index, void *ms);

static size_t used, stack_used;

static void note(char event)
{
    size_t length = strlen(events);
    if (length + 1 < sizeof(events)) events[length] = event;
}

void reset(void)
{
    memset(events, 0, sizeof(events));
    memset(enclave_memory, 0xEE, sizeof(enclave_memory));
    live = failing = scribbling = stack_is_inside = open_frames = 0;
    used = stack_used = 0;
}

void *enclave_malloc(size_t size)
{
    size_t padded = (size + 15) & ~(size_t)15;
    if (failing != 0 && --failing == 0) return NULL;
    if (size > ROOM || padded > ROOM - used) return NULL;
    used += padded;
    live++;
    return enclave_memory + used - padded;
}

void *enclave_calloc(size_t count, size_t size)
{
    void *block = enclave_malloc(count * size);
    return block == NULL ? NULL : memset(block, 0, count * size);
}

void enclave_free(void *block) { live -= block != NULL; }

static int overlaps(const void *address, size_t size)
{
    uintptr_t start = (uintptr_t)address, base = (uintptr_t)enclave_memory;
    return start < base + ROOM && start + size > base;
}

int sgx_is_outside_enclave(const void *address, size_t size)
{
    note('o');
    return (uintptr_t)address + size >= (uintptr_t)address && !overlaps(address, size);
}

int sgx_is_within_enclave(const void *address, size_t size)
{
    uintptr_t start = (uintptr_t)address, base = (uintptr_t)enclave_memory;
    note('i');
    return start >= base && size <= ROOM && start - base <= ROOM - size;
}

void sgx_lfence(void) { note('f'); }

errno_t memcpy_s(void *target, size_t room, const void *source, size_t size)
{
    if (target == NULL || source == NULL || size > room) return 22;
    note('r');
    memcpy(target, source, size);
    if (scribbling) memset((void *)source, 0xFF, size);
    return 0;
}

errno_t memcpy_verw_s(void *target, size_t room, const void *source, size_t size)
{
    if (target == NULL || source == NULL || size > room) return 22;
    note('w');
    memcpy(target, source, size);
    return 0;
}

void *memset_verw(void *target, int value, size_t size) { return memset(target, value, size); }

void *sgx_ocalloc(size_t size)
{
    size_t padded = (size + 15) & ~(size_t)15;
    open_frames++;
    if (stack_is_inside) return enclave_memory;
    if (size > ROOM || padded > ROOM - stack_used) return NULL;
    stack_used += padded;
    memset(host_stack + stack_used - padded, 0xAA, padded);
    return host_stack + stack_used - padded;
}

void sgx_ocfree(void)
{
    open_frames = 0;
    stack_used = 0;
}

sgx_status_t sgx_ocall(const unsigned int index, void *ms)
{
    note('c');
    return host(index, ms);
}

sgx_status_t sgx_ocall_switchless(const unsigned int index, void *ms)
{
    note('s');
    return host(index, ms);
}
