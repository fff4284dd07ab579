/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of this machine that wait by the enclave's futex, where a sanitizer can watch them. Each
   has thread data at GS as a TCS has; the events are semaphores that now and then go off alone. */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "futex.h"
#include "sgx_spinlock.h"
#include "tee_thread.h"

enum { THREADS = 6, ROUNDS = 20000 };

struct tcs {
    struct thread_data data; /* first: its own address is what `tee_thread` finds */
    sem_t event;
    unsigned seed;
};

struct global_data g_global_data;
static atomic_int sleeps, mutex, barrier_count, barrier_round;
static int counter;

uint32_t sgx_spin_lock(sgx_spinlock_t *lock)
{
    while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE)) sched_yield();
    return 0;
}

uint32_t sgx_spin_unlock(sgx_spinlock_t *lock)
{
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
    return 0;
}

/* Every third sleep ends at once. */
sgx_status_t sgx_thread_wait_untrusted_event_ocall(int *result, const void *self)
{
    struct tcs *tcs = (struct tcs *)self;
    *result = 0;
    sleeps++;
    if (rand_r(&tcs->seed) % 3 == 0) return SGX_SUCCESS;
    while (sem_wait(&tcs->event) != 0);
    return SGX_SUCCESS;
}

/* Waits with a limit end before it, and leave their queue themselves. */
sgx_status_t pthread_wait_timeout_ocall(int *result, unsigned long long waiter,
                                        unsigned long long timeout)
{
    (void)waiter, (void)timeout;
    *result = 0;
    sched_yield();
    return SGX_SUCCESS;
}

sgx_status_t sgx_thread_set_untrusted_event_ocall(int *result, const void *waiter)
{
    *result = 0;
    sem_post(&((struct tcs *)waiter)->event);
    return SGX_SUCCESS;
}

static void futex(atomic_int *word, int operation, int value, const void *limit, atomic_int *other)
{
    tee_futex((volatile int *)word, operation, value, limit, (volatile int *)other);
}

/* 0: free, 1: taken, 2: taken, and others may wait. */
static void lock(unsigned *seed)
{
    static const struct timespec limit = {1, 0};
    int old = 0;
    if (atomic_compare_exchange_strong(&mutex, &old, 1)) return;
    while (atomic_exchange(&mutex, 2) != 0)
        futex(&mutex, FUTEX_WAIT | FUTEX_PRIVATE, 2, rand_r(seed) % 4 ? NULL : &limit, NULL);
}

static void unlock(void)
{
    if (atomic_exchange(&mutex, 0) == 2) futex(&mutex, FUTEX_WAKE | FUTEX_PRIVATE, 1, NULL, NULL);
}

/* The last to come wakes one and lets the others wait for the mutex, whose owners wake them. */
static void meet(void)
{
    int round = barrier_round;
    if (++barrier_count % THREADS == 0) {
        mutex = 2;
        barrier_round++;
        futex(&barrier_round, FUTEX_REQUEUE | FUTEX_PRIVATE, 1, (void *)(long)THREADS, &mutex);
        unlock();
    } else {
        while (barrier_round == round)
            futex(&barrier_round, FUTEX_WAIT | FUTEX_PRIVATE, round, NULL, NULL);
        while (atomic_exchange(&mutex, 2) != 0)
            futex(&mutex, FUTEX_WAIT | FUTEX_PRIVATE, 2, NULL, NULL);
        unlock();
    }
}

static void *work(void *argument)
{
    struct tcs *tcs = argument;
    tcs->data.self = (uint64_t)tcs;
    syscall(SYS_arch_prctl, ARCH_SET_GS, tcs);
    for (int i = 0; i < ROUNDS; i++) {
        lock(&tcs->seed);
        counter++;
        unlock();
        if (i % 16 == 0) meet();
    }
    return NULL;
}

int main(void)
{
    static struct tcs tcs[THREADS];
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        sem_init(&tcs[i].event, 0, 0);
        tcs[i].seed = i;
        pthread_create(&threads[i], NULL, work, &tcs[i]);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    printf("%s\n", counter == THREADS * ROUNDS && sleeps > 0 ? "done" : "lost");
    return 0;
}
