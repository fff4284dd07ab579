/* SPDX-License-Identifier: Apache-2.0 */
/* The enclaves of the process and the state of their threads. */
#include "core.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { GPRSGX_SIZE = 184, EXINFO_SIZE = 16 };

/* Guards the list and every table of TCSs; never taken in a signal handler. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct core_enclave *enclaves;

/* -EINVAL: the SSA frame has no room for the state that XFRM and MISCSELECT ask for. */
int core_enclave_open(struct core_enclave *enclave, const struct core_memory *memory,
                      uint32_t ssa_frame_size, uint32_t misc_select, uint64_t attributes,
                      uint64_t xfrm, const struct core_operations *operations, void *owner) {
    const uint32_t most_pages = 1u << 16;
    uint32_t rest = GPRSGX_SIZE + EXINFO_SIZE * (uint32_t)__builtin_popcount(misc_select);

    memset(enclave, 0, sizeof *enclave);
    enclave->xsave_bytes = core_xsave_size(xfrm);
    if (ssa_frame_size == 0 || ssa_frame_size > most_pages ||
        ssa_frame_size * CORE_PAGE < enclave->xsave_bytes + rest)
        return -EINVAL;
    enclave->base = memory->base;
    enclave->size = memory->size;
    enclave->alias = memory->alias;
    enclave->ssa_frame_bytes = ssa_frame_size * CORE_PAGE;
    enclave->misc_select = misc_select;
    enclave->attributes = attributes;
    enclave->xfrm = xfrm;
    enclave->generation = core_generation;
    enclave->epoch = 1;
    enclave->operations = operations;
    enclave->owner = owner;
    pthread_mutex_lock(&mutex);
    enclave->next = enclaves;
    enclaves = enclave;
    pthread_mutex_unlock(&mutex);
    return 0;
}

/* -EBUSY while a thread is inside. */
int core_enclave_close(struct core_enclave *enclave) {
    if (enclave->generation == core_generation) {
        pthread_mutex_lock(&mutex);
        if (enclave->users) {
            pthread_mutex_unlock(&mutex);
            return -EBUSY;
        }
        for (struct core_enclave **link = &enclaves; *link; link = &(*link)->next)
            if (*link == enclave) {
                *link = enclave->next;
                break;
            }
        pthread_mutex_unlock(&mutex);
    }
    for (size_t i = 0; i < enclave->tcs_count; i++)
        free(enclave->tcs[i]);
    free(enclave->tcs);
    enclave->tcs = NULL;
    enclave->tcs_count = enclave->tcs_capacity = 0;
    return 0;
}

void core_enclave_release(struct core_enclave *enclave) {
    atomic_fetch_sub(&enclave->users, 1);
}

/* Where a TCS is, or belongs, in the sorted table. */
static size_t place_of(const struct core_enclave *enclave, uint64_t offset) {
    size_t low = 0, high = enclave->tcs_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (enclave->tcs[middle]->offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct core_tcs *find(const struct core_enclave *enclave, uint64_t offset) {
    size_t place = place_of(enclave, offset);
    if (place == enclave->tcs_count || enclave->tcs[place]->offset != offset)
        return NULL;
    return enclave->tcs[place];
}

static struct core_tcs *insert(struct core_enclave *enclave, uint64_t offset) {
    size_t place = place_of(enclave, offset);
    if (enclave->tcs_count == enclave->tcs_capacity) {
        size_t capacity = enclave->tcs_capacity ? 2 * enclave->tcs_capacity : 8;
        struct core_tcs **grown = realloc(enclave->tcs, capacity * sizeof *grown);
        if (!grown)
            return NULL;
        enclave->tcs = grown;
        enclave->tcs_capacity = capacity;
    }
    struct core_tcs *tcs = calloc(1, sizeof *tcs);
    if (!tcs)
        return NULL;
    tcs->offset = offset;
    memmove(&enclave->tcs[place + 1], &enclave->tcs[place],
            (enclave->tcs_count - place) * sizeof *enclave->tcs);
    enclave->tcs[place] = tcs;
    enclave->tcs_count++;
    return tcs;
}

/* Add a TCS or replace an idle one by the fields of `from`. */
int core_tcs_set(struct core_enclave *enclave, const struct core_tcs *from) {
    int result = 0;
    if (from->offset % CORE_PAGE || from->offset >= enclave->size)
        return -EINVAL;
    pthread_mutex_lock(&mutex);
    struct core_tcs *tcs = find(enclave, from->offset);
    if (!tcs)
        tcs = insert(enclave, from->offset);
    if (!tcs) {
        result = -ENOMEM;
    } else if (tcs->state != CORE_TCS_IDLE) {
        result = -EBUSY;
    } else {
        tcs->flags = from->flags;
        tcs->ossa = from->ossa;
        tcs->oentry = from->oentry;
        tcs->ofsbase = from->ofsbase;
        tcs->ogsbase = from->ogsbase;
        tcs->cssa = from->cssa;
        tcs->nssa = from->nssa;
        tcs->blocked = tcs->removed = false;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

int core_tcs_remove(struct core_enclave *enclave, uint64_t offset) {
    int result = 0;
    pthread_mutex_lock(&mutex);
    struct core_tcs *tcs = find(enclave, offset);
    if (!tcs || tcs->removed)
        result = -ENOENT;
    else if (tcs->state != CORE_TCS_IDLE)
        result = -EBUSY;
    else
        tcs->removed = true; /* kept: a thread that asks the kernel about it may hold a pointer */
    pthread_mutex_unlock(&mutex);
    return result;
}

int core_tcs_block(struct core_enclave *enclave, uint64_t offset, bool blocked) {
    pthread_mutex_lock(&mutex);
    struct core_tcs *tcs = find(enclave, offset);
    if (tcs && tcs->removed)
        tcs = NULL;
    if (tcs)
        tcs->blocked = blocked;
    pthread_mutex_unlock(&mutex);
    return tcs ? 0 : -ENOENT;
}

/* -ERANGE where the SSA frame would lie outside the enclave. */
int core_tcs_set_cssa(struct core_enclave *enclave, uint64_t offset, uint32_t cssa) {
    int result = 0;
    pthread_mutex_lock(&mutex);
    struct core_tcs *tcs = find(enclave, offset);
    if (!tcs || tcs->removed) {
        result = -ENOENT;
    } else {
        uint64_t frame = core_frame_offset(enclave, tcs, cssa);
        if (cssa > tcs->nssa || (cssa < tcs->nssa && (frame >= enclave->size ||
                                 enclave->size - frame < enclave->ssa_frame_bytes)))
            result = -ERANGE;
        else
            tcs->cssa = cssa;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

int core_tcs_get(struct core_enclave *enclave, uint64_t offset, struct core_tcs *out) {
    pthread_mutex_lock(&mutex);
    const struct core_tcs *tcs = find(enclave, offset);
    if (tcs && tcs->removed)
        tcs = NULL;
    if (tcs)
        memcpy(out, tcs, sizeof *out);
    pthread_mutex_unlock(&mutex);
    return tcs ? 0 : -ENOENT;
}

/* Make a TCS busy for the calling thread; else NULL, and the exception that the processor has.
 * *enclave, if it was NULL, becomes the one whose ELRANGE holds the address: it can't be closed
 * until it is released. */
struct core_tcs *core_tcs_claim(struct core_enclave **enclave, uint64_t address, uint32_t *vector,
                                uint32_t *error_code) {
    struct core_tcs *tcs = NULL;

    *vector = CORE_VECTOR_PF;
    *error_code = CORE_PF_USER | CORE_PF_WRITE;
    pthread_mutex_lock(&mutex);
    if (!*enclave) {
        struct core_enclave *at = enclaves;
        while (at && address - at->base >= at->size)
            at = at->next;
        if (at)
            at->users++;
        *enclave = at;
    }
    if (*enclave)
        tcs = find(*enclave, address - (*enclave)->base);
    if (tcs && (tcs->removed || tcs->blocked)) {
        if (tcs->blocked)
            *error_code |= CORE_PF_PRESENT;
        tcs = NULL;
    } else if (tcs && tcs->state != CORE_TCS_IDLE) { /* who makes it idle needs no lock */
        *vector = CORE_VECTOR_GP;
        *error_code = 0;
        tcs = NULL;
    } else if (tcs) {
        atomic_store_explicit(&tcs->tid, 0, memory_order_relaxed);
        atomic_store_explicit(&tcs->epoch, (*enclave)->epoch, memory_order_relaxed);
        atomic_store_explicit(&tcs->state, CORE_TCS_RUNNING, memory_order_relaxed);
    }
    pthread_mutex_unlock(&mutex);
    return tcs;
}

/* Threads that run in the enclave since before an epoch. One that waits for the host to serve a
 * leaf holds no translations: it counts again, with the epoch of that time, when it goes on. */
uint32_t core_enclave_inside_before(struct core_enclave *enclave, uint64_t epoch) {
    uint32_t count = 0;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < enclave->tcs_count; i++)
        if (enclave->tcs[i]->state == CORE_TCS_RUNNING && enclave->tcs[i]->epoch < epoch)
            count++;
    pthread_mutex_unlock(&mutex);
    return count;
}

/* Signal one thread until it has left; the signal may come before the thread is inside. */
static void kick(struct core_tcs *tcs, uint64_t entries) {
    const struct timespec pause = {.tv_nsec = 50000};
    const int most = 20000; /* a second: a thread that blocks the signal can't be had */

    for (int i = 0; i < most; i++) {
        int32_t tid = tcs->tid;
        if (tcs->state != CORE_TCS_RUNNING || tcs->entries != entries || tid == 0)
            return;
        if (i % 16 == 0 && syscall(SYS_tgkill, getpid(), tid, core_kick_signal()) != 0)
            return;
        if (i < 8)
            sched_yield();
        else
            nanosleep(&pause, NULL);
    }
}

/* Force an AEX in every thread that runs in the enclave, and wait until each has left. */
void core_enclave_kick(struct core_enclave *enclave) {
    int32_t own = (int32_t)syscall(SYS_gettid);

    for (size_t i = 0;; i++) {
        pthread_mutex_lock(&mutex);
        struct core_tcs *tcs = i < enclave->tcs_count ? enclave->tcs[i] : NULL;
        uint64_t entries = tcs ? tcs->entries : 0;
        pthread_mutex_unlock(&mutex);
        if (!tcs)
            return;
        if (tcs->tid != own)
            kick(tcs, entries);
    }
}

/* In the child of a fork the enclaves are gone: their memory was not inherited. */
void core_enclaves_forked(void) {
    pthread_mutex_init(&mutex, NULL);
    enclaves = NULL;
}
