/* SPDX-License-Identifier: Apache-2.0 */
/* The one thing that musl's locks, conditions and semaphores wait by. Who waits for which word is
   kept inside; the host only puts threads to sleep and wakes them. It can do either wrongly: a
   thread goes on only when it was taken out of its queue in here, or looks at its word again. */
#include "futex.h"

#include <errno.h>
#include <sys/syscall.h>

#include "sgx_spinlock.h"
#include "syscall.h"
#include "tee_thread.h"

/* Made from sgx_tstdc.edl and sgx_pthread.edl, where the enclave imports them. */
#define IF_IMPORTED __attribute__((__weak__, visibility("hidden")))
sgx_status_t sgx_thread_wait_untrusted_event_ocall(int *result, const void *self) IF_IMPORTED;
sgx_status_t sgx_thread_set_untrusted_event_ocall(int *result, const void *waiter) IF_IMPORTED;
sgx_status_t pthread_wait_timeout_ocall(int *result, unsigned long long waiter,
                                        unsigned long long timeout) IF_IMPORTED;

/* How long a thread that cannot sleep waits before it looks again. */
#define SPINS 64
#define NAP 1000000 /* nanoseconds */
#define BUCKETS 64

/* On the stack of the thread that waits. */
struct waiter {
    volatile int *word; /* changes only with the lock of the bucket it is in */
    uint64_t tcs;
    struct waiter *next;
    int woken; /* the last that a waker touches */
};

/* The waiters for some words, longest first. */
static struct bucket {
    sgx_spinlock_t lock;
    struct waiter *first;
} buckets[BUCKETS];

static struct bucket *bucket_of(volatile int *word)
{
    return &buckets[((uintptr_t)word >> 2) * 0x9E3779B97F4A7C15 >> 58];
}
_Static_assert(BUCKETS == 1 << (64 - 58), "the hash gives a bucket's number");

static struct bucket *lock(volatile int *word)
{
    struct bucket *bucket = bucket_of(word);
    sgx_spin_lock(&bucket->lock);
    return bucket;
}

static void append(struct bucket *bucket, struct waiter *waiter)
{
    struct waiter **link = &bucket->first;
    while (*link != NULL) link = &(*link)->next;
    waiter->next = NULL;
    *link = waiter;
}

static void sleep_outside(const struct waiter *self)
{
    int result;
    sgx_thread_wait_untrusted_event_ocall(&result, (const void *)self->tcs);
}

static void sleep_outside_for(const struct waiter *self, time_t seconds)
{
    int result;
    pthread_wait_timeout_ocall(&result, self->tcs, (unsigned long long)seconds);
}

/* Every wake-up sets one event, so every wait ends with one sleep at least: none are left over. */
static long sleep_until_woken(const struct waiter *self)
{
    do sleep_outside(self);
    while (!__atomic_load_n(&self->woken, __ATOMIC_ACQUIRE));
    return 0;
}

/* Give up waiting; false when a waker was faster. */
static int leave(struct waiter *self)
{
    for (;;) {
        volatile int *word = __atomic_load_n(&self->word, __ATOMIC_RELAXED);
        struct bucket *bucket = lock(word);
        int is_here = self->word == word, found = 0;
        for (struct waiter **link = &bucket->first; is_here && *link != NULL; link = &(*link)->next)
            if (*link == self) {
                *link = self->next;
                found = 1;
                break;
            }
        sgx_spin_unlock(&bucket->lock);
        if (is_here) return found;
    }
}

static int has(volatile int *word, int value)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED) == value;
}

static long spin(volatile int *word, int value)
{
    for (int i = 0; i < SPINS && has(word, value); i++) __asm__ __volatile__("pause");
    return has(word, value) ? 0 : -EAGAIN;
}

/* A short nap, if there is a host to keep the time of it. */
static long nap(volatile int *word, int value, const struct timespec *timeout)
{
    struct timespec nap = {0, NAP};
    if (timeout->tv_sec == 0 && timeout->tv_nsec < NAP) nap = *timeout;
    if (!has(word, value)) return -EAGAIN;
    return __syscall(SYS_nanosleep, &nap, NULL) == 0 ? 0 : spin(word, value);
}

/* The host's timed sleep knows whole seconds only; what is left of them is spent in naps. Callers
   of a timed wait look at the clock whenever it returns, so it need not say that time is up. */
static long wait(volatile int *word, int value, const struct timespec *timeout)
{
    int can_sleep = sgx_thread_wait_untrusted_event_ocall != NULL;
    if (timeout != NULL && !(can_sleep && pthread_wait_timeout_ocall != NULL && timeout->tv_sec > 0))
        return nap(word, value, timeout);
    if (!can_sleep) return spin(word, value);
    struct waiter self = {
        .word = word,
        .tcs = tee_thread()->self - g_global_data.thread_template.self,
    };
    struct bucket *bucket = lock(word);
    int is_late = !has(word, value);
    if (!is_late) append(bucket, &self);
    sgx_spin_unlock(&bucket->lock);
    if (is_late) return -EAGAIN;
    if (timeout == NULL) return sleep_until_woken(&self);
    sleep_outside_for(&self, timeout->tv_sec);
    if (leave(&self)) return 0;
    /* Whether that sleep ended with the waker's event or before it, no one can tell. */
    while (!__atomic_load_n(&self.woken, __ATOMIC_ACQUIRE)) __asm__ __volatile__("pause");
    return 0;
}

/* Take up to `count` of a word's waiters out of their queue: a chain of the caller's own. */
static struct waiter *take(volatile int *word, int count)
{
    struct waiter *taken = NULL, **end = &taken;
    struct bucket *bucket = lock(word);
    for (struct waiter **link = &bucket->first; *link != NULL && count > 0;) {
        struct waiter *at = *link;
        if (at->word != word) {
            link = &at->next;
            continue;
        }
        *link = at->next;
        at->next = NULL;
        *end = at;
        end = &at->next;
        count--;
    }
    sgx_spin_unlock(&bucket->lock);
    return taken;
}

/* After this the waiter, and what it is on, may be gone. */
static uint64_t release(struct waiter *waiter)
{
    uint64_t tcs = waiter->tcs;
    __atomic_store_n(&waiter->woken, 1, __ATOMIC_RELEASE);
    return tcs;
}

static long wake(volatile int *word, int count)
{
    long woken = 0;
    for (struct waiter *at = take(word, count), *next; at != NULL; at = next, woken++) {
        int result;
        next = at->next;
        sgx_thread_set_untrusted_event_ocall(&result, (const void *)release(at));
    }
    return woken;
}

/* Let up to `count` of a word's waiters wait for another word. */
static long move(volatile int *word, volatile int *other, int count)
{
    struct bucket *from = bucket_of(word), *to = bucket_of(other);
    long moved = 0;
    if (word == other) return 0;
    sgx_spin_lock(from < to ? &from->lock : &to->lock);
    if (from != to) sgx_spin_lock(from < to ? &to->lock : &from->lock);
    for (struct waiter **link = &from->first; *link != NULL && moved < count;) {
        struct waiter *at = *link;
        if (at->word != word) {
            link = &at->next;
            continue;
        }
        *link = at->next;
        __atomic_store_n(&at->word, other, __ATOMIC_RELAXED);
        append(to, at);
        moved++;
    }
    sgx_spin_unlock(&from->lock);
    if (from != to) sgx_spin_unlock(&to->lock);
    return moved;
}

uint64_t tee_futex_take(volatile int *word)
{
    struct waiter *waiter = take(word, 1);
    return waiter == NULL ? 0 : release(waiter);
}

long tee_futex(volatile int *word, long operation, int value, const struct timespec *timeout,
               volatile int *other)
{
    switch (operation & ~(FUTEX_PRIVATE | FUTEX_CLOCK_REALTIME)) {
    case FUTEX_WAIT:
        return wait(word, value, timeout);
    case FUTEX_WAKE:
        return wake(word, value);
    case FUTEX_REQUEUE: {
        long woken = wake(word, value);
        return woken + move(word, other, (int)(long)timeout);
    }
    }
    return -ENOSYS;
}
