/* SPDX-License-Identifier: Apache-2.0 */
/* Shared state that comes out right only when pthread works, and threads made in here. */
#include "pthreads_t.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define ROOM 4
#define MANY 16

static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive;
static mtx_t standard_mutex;
static pthread_rwlock_t both_lock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_full = PTHREAD_COND_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER;
static sem_t posts;
static pthread_barrier_t barrier;
static pthread_once_t just_once = PTHREAD_ONCE_INIT;

/* Volatile: the compiler may not fold the rounds into one. */
static volatile uint64_t counter, first, second;
static volatile int places[MANY];
static int queue[ROOM], filled, onces, destructions;
static pthread_t one;

enum { PLAIN, RECURSIVE, STANDARD, READ_WRITE, SEMAPHORE };
static sem_t binary;

__attribute__((constructor)) static void prepare(void)
{
    pthread_mutexattr_t again;
    pthread_mutexattr_init(&again);
    pthread_mutexattr_settype(&again, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &again);
    mtx_init(&standard_mutex, mtx_plain);
    sem_init(&posts, 0, 0);
    sem_init(&binary, 0, 1);
}

static void enter(int kind)
{
    switch (kind) {
    case PLAIN: pthread_mutex_lock(&plain); break;
    case RECURSIVE: pthread_mutex_lock(&recursive), pthread_mutex_lock(&recursive); break;
    case STANDARD: mtx_lock(&standard_mutex); break;
    case READ_WRITE: pthread_rwlock_wrlock(&both_lock); break;
    case SEMAPHORE: sem_wait(&binary); break;
    }
}

static void leave_it(int kind)
{
    switch (kind) {
    case PLAIN: pthread_mutex_unlock(&plain); break;
    case RECURSIVE: pthread_mutex_unlock(&recursive), pthread_mutex_unlock(&recursive); break;
    case STANDARD: mtx_unlock(&standard_mutex); break;
    case READ_WRITE: pthread_rwlock_unlock(&both_lock); break;
    case SEMAPHORE: sem_post(&binary); break;
    }
}

uint64_t count_up(int rounds, int kind)
{
    for (int i = 0; i < rounds; i++) {
        enter(kind);
        counter = counter + 1;
        leave_it(kind);
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
        pthread_rwlock_wrlock(&both_lock);
        first = first + 1;
        second = second + 1;
        pthread_rwlock_unlock(&both_lock);
    }
    return first;
}

/* How often the two differed. */
uint64_t read_both(int rounds)
{
    uint64_t different = 0;
    for (int i = 0; i < rounds; i++) {
        pthread_rwlock_rdlock(&both_lock);
        different += first != second;
        pthread_rwlock_unlock(&both_lock);
    }
    return different;
}

int produce(int count)
{
    for (int i = 1; i <= count; i++) {
        pthread_mutex_lock(&queue_lock);
        while (filled == ROOM) pthread_cond_wait(&not_full, &queue_lock);
        queue[filled++] = i;
        pthread_cond_broadcast(&not_empty);
        pthread_mutex_unlock(&queue_lock);
    }
    return count;
}

int64_t consume(int count)
{
    int64_t sum = 0;
    for (int i = 0; i < count; i++) {
        pthread_mutex_lock(&queue_lock);
        while (filled == 0) pthread_cond_wait(&not_empty, &queue_lock);
        sum += queue[--filled];
        pthread_cond_signal(&not_full);
        pthread_mutex_unlock(&queue_lock);
    }
    return sum;
}

int post(int count)
{
    int failures = 0;
    for (int i = 0; i < count; i++) failures += sem_post(&posts) != 0;
    return failures;
}

/* What is left over afterwards, if this was the last to wait. */
int wait_for_posts(int count)
{
    int left = -1;
    for (int i = 0; i < count; i++) sem_wait(&posts);
    sem_getvalue(&posts, &left);
    return left;
}

/* How often another was not as far as the barrier promises. */
int meet(int own, int parties, int rounds)
{
    int behind = 0;
    pthread_mutex_lock(&plain);
    if (places[MANY - 1] == 0) pthread_barrier_init(&barrier, NULL, (unsigned)parties);
    places[MANY - 1] = 1;
    pthread_mutex_unlock(&plain);
    for (int round = 1; round <= rounds; round++) {
        places[own] = round;
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < parties; i++) behind += places[i] < round;
        pthread_barrier_wait(&barrier);
    }
    return behind;
}

static void happen_once(void)
{
    outside(); /* for long enough that others come */
    onces++;
}

int once(void)
{
    pthread_once(&just_once, happen_once);
    return onces;
}

int hold(void)
{
    pthread_mutex_lock(&plain);
    outside();
    counter = counter + 1;
    return pthread_mutex_unlock(&plain);
}

uint64_t pass_by(void)
{
    pthread_mutex_lock(&plain);
    uint64_t result = counter = counter + 1;
    pthread_mutex_unlock(&plain);
    return result;
}

int wait_a_second(void)
{
    int word = 0;
    const struct timespec limit = {1, 0};
    return (int)syscall(SYS_futex, &word, 0, 0, &limit, NULL, 0);
}

/* There is no clock to tell by whether time is up. */
int mind_time(void)
{
    const struct timespec until = {1, 0};
    pthread_mutex_lock(&queue_lock);
    int result = pthread_cond_timedwait(&not_full, &queue_lock, &until);
    pthread_mutex_unlock(&queue_lock);
    return result;
}

/* 0, or the line of what was answered otherwise than it should be. */
#define EXPECT(condition) \
    if (!(condition)) return __LINE__

static void *count(void *rounds)
{
    count_up((int)(intptr_t)rounds, PLAIN);
    return rounds;
}

/* What all counted, if every one was made and says so. */
uint64_t spawn(int threads, int rounds)
{
    pthread_t made[MANY];
    uint64_t sum = 0;
    for (int i = 0; i < threads; i++)
        if (pthread_create(&made[i], NULL, count, (void *)(intptr_t)rounds) != 0) return 0;
    for (int i = 0; i < threads; i++) {
        void *value = NULL;
        if (pthread_join(made[i], &value) != 0) return 0;
        sum += (uint64_t)(uintptr_t)value;
    }
    return sum == counted() ? sum : 0;
}

static pthread_key_t key;
static _Thread_local int local = 5;
static int cleanups;

static void destroy(void *value)
{
    destructions += (int)(intptr_t)value;
}

static void clean_up(void *value)
{
    cleanups = cleanups * 10 + (int)(intptr_t)value;
}

static void *live(void *self)
{
    if (local != 5 || errno != 0 || pthread_getspecific(key) != NULL) return NULL;
    local = 6;
    errno = 7;
    pthread_setspecific(key, (void *)100);
    *(pthread_t *)self = pthread_self();
    pthread_cleanup_push(clean_up, (void *)1);
    pthread_cleanup_push(clean_up, (void *)2);
    pthread_exit(self);
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
    return NULL;
}

int lifecycle(void)
{
    pthread_t made, said = NULL;
    pthread_attr_t wish;
    void *value = NULL;
    local = 8;
    errno = 9;
    destructions = cleanups = 0;
    EXPECT(pthread_key_create(&key, destroy) == 0);
    for (int i = 1; i <= 3; i++) { /* the second is on the first's TCS, as likely as not */
        EXPECT(pthread_create(&made, NULL, live, &said) == 0);
        EXPECT(pthread_join(made, &value) == 0 && value == &said);
        EXPECT(pthread_equal(made, said) && !pthread_equal(made, pthread_self()));
        EXPECT(destructions == i * 100 && cleanups == 21);
        cleanups = 0;
    }
    EXPECT(local == 8 && errno == 9);
    EXPECT(pthread_key_delete(key) == 0);
    EXPECT(pthread_attr_init(&wish) == 0);
    EXPECT(pthread_attr_setstacksize(&wish, 1 << 30) == 0);
    EXPECT(pthread_create(&made, &wish, count, NULL) == EAGAIN);
    EXPECT(pthread_attr_setstack(&wish, malloc(1 << 16), 1 << 16) == 0);
    EXPECT(pthread_create(&made, &wish, count, NULL) == EINVAL);
    EXPECT(pthread_attr_init(&wish) == 0);
    EXPECT(pthread_attr_setinheritsched(&wish, PTHREAD_EXPLICIT_SCHED) == 0);
    EXPECT(pthread_create(&made, &wish, count, NULL) == EPERM);
    return 0;
}

static void *see_new_key(void *unused)
{
    pthread_key_t fresh;
    pthread_setspecific(key, &fresh);
    sem_post(&posts);
    sem_wait(&binary);
    return pthread_getspecific(key) == NULL ? unused : NULL;
}

/* A key that takes a deleted one's place is NULL in threads that had a value for the other. */
int keys(void)
{
    pthread_t made;
    pthread_key_t fresh;
    void *value = NULL;
    EXPECT(pthread_key_create(&key, destroy) == 0);
    EXPECT(pthread_setspecific(key, &made) == 0);
    sem_wait(&binary);
    EXPECT(pthread_create(&made, NULL, see_new_key, &made) == 0);
    sem_wait(&posts);
    EXPECT(pthread_key_delete(key) == 0);
    do EXPECT(pthread_key_create(&fresh, NULL) == 0);
    while (fresh != key);
    sem_post(&binary);
    EXPECT(pthread_join(made, &value) == 0 && value == &made);
    sem_post(&binary);
    EXPECT(pthread_getspecific(key) == NULL);
    for (pthread_key_t each = 0; each < 128; each++) pthread_key_delete(each);
    return 0;
}

static void *post_one(void *unused)
{
    if (unused != NULL) pthread_detach(pthread_self());
    sem_post(&posts);
    return unused;
}

int detached(int count)
{
    pthread_attr_t wish;
    pthread_t made;
    EXPECT(pthread_attr_init(&wish) == 0);
    EXPECT(pthread_attr_setdetachstate(&wish, PTHREAD_CREATE_DETACHED) == 0);
    for (int i = 0; i < count; i++) {
        EXPECT(pthread_create(&made, &wish, post_one, NULL) == 0);
        sem_wait(&posts);
        EXPECT(pthread_create(&made, NULL, post_one, &posts) == 0);
        sem_wait(&posts);
        EXPECT(pthread_create(&made, NULL, post_one, NULL) == 0);
        sem_wait(&posts);
        EXPECT(pthread_detach(made) == 0);
    }
    return 0;
}

static int negative(void *value)
{
    thrd_yield();
    return -*(int *)value;
}

static cnd_t raised;
static int flag;

static int wait_for_flag(void *unused)
{
    mtx_lock(&standard_mutex);
    while (!flag) cnd_wait(&raised, &standard_mutex);
    mtx_unlock(&standard_mutex);
    thrd_exit(unused == NULL ? -3 : 0);
}

int standard_c(void)
{
    thrd_t made, waiter[2];
    int value = 7, result = 0;
    EXPECT(thrd_create(&made, negative, &value) == thrd_success);
    EXPECT(thrd_join(made, &result) == thrd_success && result == -7);
    EXPECT(cnd_init(&raised) == thrd_success);
    flag = 0;
    for (int i = 0; i < 2; i++)
        EXPECT(thrd_create(&waiter[i], wait_for_flag, NULL) == thrd_success);
    mtx_lock(&standard_mutex);
    flag = 1;
    cnd_broadcast(&raised);
    mtx_unlock(&standard_mutex);
    for (int i = 0; i < 2; i++)
        EXPECT(thrd_join(waiter[i], &result) == thrd_success && result == -3);
    return 0;
}

static void *lock_and_end(void *mutex)
{
    return (void *)(intptr_t)pthread_mutex_lock(mutex);
}

int robust(void)
{
    pthread_mutex_t mutex;
    pthread_mutexattr_t wish;
    pthread_t made;
    EXPECT(pthread_mutexattr_init(&wish) == 0);
    EXPECT(pthread_mutexattr_setrobust(&wish, PTHREAD_MUTEX_ROBUST) == 0);
    EXPECT(pthread_mutex_init(&mutex, &wish) == 0);
    EXPECT(pthread_create(&made, NULL, lock_and_end, &mutex) == 0);
    EXPECT(pthread_join(made, NULL) == 0);
    EXPECT(pthread_mutex_lock(&mutex) == EOWNERDEAD);
    EXPECT(pthread_mutex_consistent(&mutex) == 0);
    EXPECT(pthread_mutex_unlock(&mutex) == 0);
    return 0;
}

static void *wait_for_post(void *unused)
{
    sem_wait(&posts);
    return unused;
}

/* How many of `count` were made before there was no TCS left; all end afterwards. */
int exhaust(int count)
{
    pthread_t made[MANY];
    int threads = 0;
    for (int i = 0; i < count; i++) {
        int status = pthread_create(&made[threads], NULL, wait_for_post, NULL);
        if (status != 0 && status != EAGAIN) return -status;
        threads += status == 0;
    }
    for (int i = 0; i < threads; i++) sem_post(&posts);
    for (int i = 0; i < threads; i++) pthread_join(made[i], NULL);
    return threads;
}

/* How many of `threads` could be made while others make theirs; -1 when one came out wrong. */
int crowd(int threads)
{
    pthread_t made[MANY];
    int number = 0;
    for (int i = 0; i < threads; i++) {
        int status = pthread_create(&made[number], NULL, count, (void *)(intptr_t)(number + 1));
        if (status != 0 && status != EAGAIN) return -1;
        number += status == 0;
    }
    for (int i = 0; i < number; i++) {
        void *value = NULL;
        if (pthread_join(made[i], &value) != 0 || (intptr_t)value != i + 1) return -1;
    }
    return number;
}

int create_one(void)
{
    return pthread_create(&one, NULL, count, (void *)1);
}

int join_one(void)
{
    void *value = NULL;
    int status = pthread_join(one, &value);
    return status != 0 ? -status : (int)(intptr_t)value;
}

void leave(int nested)
{
    if (nested) {
        inside_again();
        return;
    }
    local = 77;
    pthread_key_create(&key, destroy);
    destructions = 0;
    pthread_setspecific(key, (void *)1000);
    pthread_exit(NULL);
}

int remember(int value)
{
    if (pthread_key_create(&key, destroy) != 0) return -1;
    pthread_setspecific(key, (void *)(intptr_t)value);
    return local;
}

int destroyed(void)
{
    int result = destructions;
    destructions = 0;
    return result + (local - 5) * 1000000;
}
