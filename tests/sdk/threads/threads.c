/* SPDX-License-Identifier: Apache-2.0 */
/* Shared state that comes out right only when locks and condition variables work. */
#include "threads_t.h"

#include <errno.h>
#include <pthread.h>

#include "sgx_cpuid.h"
#include "sgx_thread.h"

#define ROOM 4

static sgx_thread_mutex_t plain = SGX_THREAD_MUTEX_INITIALIZER;
static sgx_thread_mutex_t recursive_mutex = SGX_THREAD_RECURSIVE_MUTEX_INITIALIZER;
static sgx_thread_rwlock_t both_lock = SGX_THREAD_LOCK_INITIALIZER;
static sgx_thread_mutex_t queue_lock = SGX_THREAD_MUTEX_INITIALIZER;
static sgx_thread_cond_t not_full = SGX_THREAD_COND_INITIALIZER;
static sgx_thread_cond_t not_empty = SGX_THREAD_COND_INITIALIZER;
static sgx_thread_cond_t raised = SGX_THREAD_COND_INITIALIZER;

/* Volatile: the compiler may not fold the rounds into one. */
static volatile uint64_t counter, first, second;
static int queue[ROOM], filled, flag;

uint64_t count_up(int rounds, int recursive)
{
    sgx_thread_mutex_t *mutex = recursive ? &recursive_mutex : &plain;
    for (int i = 0; i < rounds; i++) {
        sgx_thread_mutex_lock(mutex);
        if (recursive) sgx_thread_mutex_lock(mutex);
        counter = counter + 1;
        if (recursive) sgx_thread_mutex_unlock(mutex);
        sgx_thread_mutex_unlock(mutex);
    }
    return 0;
}

uint64_t counted(void)
{
    uint64_t result = counter;
    counter = 0;
    return result;
}

uint64_t write_both(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        sgx_thread_rwlock_wrlock(&both_lock);
        first = first + 1;
        second = second + 1;
        sgx_thread_rwlock_unlock(&both_lock);
    }
    return first;
}

/* How often the two differed. */
uint64_t read_both(int rounds)
{
    uint64_t different = 0;
    for (int i = 0; i < rounds; i++) {
        sgx_thread_rwlock_rdlock(&both_lock);
        different += first != second;
        sgx_thread_rwlock_unlock(&both_lock);
    }
    return different;
}

int produce(int count)
{
    for (int i = 1; i <= count; i++) {
        sgx_thread_mutex_lock(&queue_lock);
        while (filled == ROOM) sgx_thread_cond_wait(&not_full, &queue_lock);
        queue[filled++] = i;
        sgx_thread_cond_signal(&not_empty);
        sgx_thread_mutex_unlock(&queue_lock);
    }
    return count;
}

int64_t consume(int count)
{
    int64_t sum = 0;
    for (int i = 0; i < count; i++) {
        sgx_thread_mutex_lock(&queue_lock);
        while (filled == 0) sgx_thread_cond_wait(&not_empty, &queue_lock);
        sum += queue[--filled];
        sgx_thread_cond_signal(&not_full);
        sgx_thread_mutex_unlock(&queue_lock);
    }
    return sum;
}

int wait_for_flag(void)
{
    sgx_thread_mutex_lock(&plain);
    while (!flag) sgx_thread_cond_wait(&raised, &plain);
    return sgx_thread_mutex_unlock(&plain);
}

int raise_flag(void)
{
    sgx_thread_mutex_lock(&plain);
    flag = 1;
    sgx_thread_cond_broadcast(&raised);
    return sgx_thread_mutex_unlock(&plain);
}

/* 0, or the line of what was answered otherwise than it should be. */
#define EXPECT(call, answer) \
    if ((call) != (answer)) return __LINE__

int misuse(void)
{
    sgx_thread_mutex_t mutex;
    sgx_thread_cond_t cond;
    sgx_thread_rwlock_t lock;
    EXPECT(sgx_thread_mutex_init(NULL, NULL), EINVAL);
    EXPECT(sgx_thread_mutex_init(&mutex, NULL), 0);
    EXPECT(sgx_thread_mutex_unlock(&mutex), EPERM);
    EXPECT(sgx_thread_mutex_lock(&mutex), 0);
    EXPECT(sgx_thread_mutex_trylock(&mutex), EBUSY);
    EXPECT(sgx_thread_mutex_destroy(&mutex), EBUSY);
    EXPECT(sgx_thread_mutex_unlock(&mutex), 0);
    EXPECT(sgx_thread_cond_init(&cond, NULL), 0);
    EXPECT(sgx_thread_cond_wait(&cond, &mutex), EPERM);
    EXPECT(sgx_thread_cond_signal(&cond), 0);
    EXPECT(sgx_thread_cond_destroy(&cond), 0);
    EXPECT(sgx_thread_mutex_destroy(&mutex), 0);
    EXPECT(sgx_thread_mutex_lock(&mutex), EINVAL);
    EXPECT(sgx_thread_rwlock_init(&lock, NULL), 0);
    EXPECT(sgx_thread_rwlock_tryrdlock(&lock), 0);
    EXPECT(sgx_thread_rwlock_tryrdlock(&lock), 0);
    EXPECT(sgx_thread_rwlock_trywrlock(&lock), EBUSY);
    EXPECT(sgx_thread_rwlock_wrunlock(&lock), EPERM);
    EXPECT(sgx_thread_rwlock_rdunlock(&lock), 0);
    EXPECT(sgx_thread_rwlock_unlock(&lock), 0);
    EXPECT(sgx_thread_rwlock_rdunlock(&lock), EPERM);
    EXPECT(sgx_thread_rwlock_trywrlock(&lock), 0);
    EXPECT(sgx_thread_rwlock_wrlock(&lock), EDEADLK);
    EXPECT(sgx_thread_rwlock_rdlock(&lock), EDEADLK);
    EXPECT(sgx_thread_rwlock_destroy(&lock), EBUSY);
    EXPECT(sgx_thread_rwlock_wrunlock(&lock), 0);
    EXPECT(sgx_thread_rwlock_destroy(&lock), 0);
    EXPECT(sgx_thread_equal(sgx_thread_self(), sgx_thread_self()), 1);
    return 0;
}

static void *do_nothing(void *unused)
{
    return unused;
}

int make_thread(void)
{
    pthread_t made;
    return pthread_create(&made, NULL, do_nothing, NULL);
}

int cpuid_agrees(int *registers, int leaf, int subleaf)
{
    return (int)sgx_cpuidex(registers, leaf, subleaf);
}
