/* SPDX-License-Identifier: Apache-2.0 */
/* A host in C whose threads meet those of the enclave: app ENCLAVE ROUNDS. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pthreads_u.h"
#include "sgx_urts.h"

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                 \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

enum { THREADS = 4, COUNT = 2000, KINDS = 5 };

static sgx_enclave_id_t id;

void outside(void)
{
    usleep(1000);
}

void inside_again(void)
{
}

static void *count(void *kind)
{
    uint64_t result;
    CHECK(count_up(id, &result, COUNT, (int)(intptr_t)kind) == SGX_SUCCESS);
    return NULL;
}

static void *make(void *unused)
{
    int result = 0;
    CHECK(produce(id, &result, COUNT) == SGX_SUCCESS && result == COUNT);
    return unused;
}

static void *use(void *sum)
{
    int64_t result = 0;
    CHECK(consume(id, &result, COUNT) == SGX_SUCCESS);
    *(int64_t *)sum = result;
    return NULL;
}

static void *meet_others(void *own)
{
    int result = -1;
    CHECK(meet(id, &result, (int)(intptr_t)own, THREADS, 50) == SGX_SUCCESS && result == 0);
    return NULL;
}

static void *be_crowd(void *made)
{
    sgx_status_t status;
    do status = crowd(id, made, 3); /* the enclave's own threads may have all the TCSs */
    while (status == SGX_ERROR_OUT_OF_TCS);
    CHECK(status == SGX_SUCCESS && *(int *)made >= 0);
    return NULL;
}

static void start(pthread_t *thread, void *(*what)(void *), void *argument)
{
    CHECK(pthread_create(thread, NULL, what, argument) == 0);
}

static void join(const pthread_t *threads)
{
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

/* The host's threads have all the TCSs but the first, and give them back. */
static void host_threads(void)
{
    pthread_t threads[THREADS];
    int64_t sums[2];
    uint64_t result;
    for (intptr_t kind = 0; kind < KINDS; kind++) {
        for (int i = 0; i < THREADS; i++) start(&threads[i], count, (void *)kind);
        join(threads);
        CHECK(counted(id, &result) == SGX_SUCCESS && result == THREADS * COUNT);
    }
    for (int i = 0; i < THREADS; i++)
        start(&threads[i], i % 2 ? use : make, i % 2 ? &sums[i / 2] : NULL);
    join(threads);
    CHECK(sums[0] + sums[1] == (int64_t)COUNT * (COUNT + 1));
    for (intptr_t i = 0; i < THREADS; i++) start(&threads[i], meet_others, (void *)i);
    join(threads);
}

/* More threads are wanted than there are TCSs. */
static void crowds(void)
{
    pthread_t threads[THREADS];
    int made[THREADS];
    uint64_t result, sum = 0;
    for (int i = 0; i < THREADS; i++) start(&threads[i], be_crowd, &made[i]);
    join(threads);
    for (int i = 0; i < THREADS; i++) sum += (uint64_t)(made[i] * (made[i] + 1) / 2);
    CHECK(counted(id, &result) == SGX_SUCCESS && result == sum);
}

static void own_threads(void)
{
    uint64_t sum = 0;
    int result = -1;
    for (int i = 0; i < 20; i++)
        CHECK(spawn(id, &sum, THREADS, 50) == SGX_SUCCESS && sum == THREADS * 50);
    CHECK(lifecycle(id, &result) == SGX_SUCCESS && result == 0);
    CHECK(keys(id, &result) == SGX_SUCCESS && result == 0);
    CHECK(standard_c(id, &result) == SGX_SUCCESS && result == 0);
    CHECK(robust(id, &result) == SGX_SUCCESS && result == 0);
    CHECK(detached(id, &result, 50) == SGX_SUCCESS && result == 0);
    CHECK(exhaust(id, &result, THREADS + 3) == SGX_SUCCESS && result == THREADS);
    CHECK(leave(id, 0) == SGX_PTHREAD_EXIT);
    CHECK(destroyed(id, &result) == SGX_SUCCESS && result == 1000);
}

int main(int number, char **arguments)
{
    CHECK(number == 3);
    int result = -1;
    CHECK(sgx_create_enclave(arguments[1], 1, NULL, NULL, &id, NULL) == SGX_SUCCESS);
    CHECK(wait_a_second(id, &result) == SGX_SUCCESS && result == 0);
    for (int rounds = atoi(arguments[2]); rounds > 0; rounds--) {
        host_threads();
        crowds();
        own_threads();
    }
    CHECK(sgx_destroy_enclave(id) == SGX_SUCCESS);
    puts("done");
    return 0;
}
