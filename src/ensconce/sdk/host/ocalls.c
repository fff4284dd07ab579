/* SPDX-License-Identifier: Apache-2.0 */
/* The OCALLs that the vendor's untrusted library brings along: sgx_tstdc.edl, sgx_pthread.edl.
 * A TCS's event is a counting semaphore. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host.h"

enum { ECMD_ECALL_PTHREAD = -6, FAILED = SGX_ERROR_UNEXPECTED };

/* What a thread that the enclave saw end may need to be out of it, and of its TCS. */
enum { LEAVING = 100 /* milliseconds */ };

/* The event of a TCS, its enclave in use meanwhile; NULL for an address that is none's. */
static sem_t *event_of(uint64_t tcs, struct host_enclave **enclave) {
    *enclave = host_enclave_at(tcs);
    for (uint32_t i = 0; *enclave && i < (*enclave)->thread_count; i++)
        if ((*enclave)->threads[i].tcs == tcs)
            return &(*enclave)->threads[i].event;
    if (*enclave)
        host_enclave_release(*enclave);
    return NULL;
}

static int set_event(uint64_t tcs) {
    struct host_enclave *enclave;
    sem_t *event = event_of(tcs, &enclave);
    if (!event)
        return SGX_ERROR_INVALID_PARAMETER;
    sem_post(event);
    host_enclave_release(enclave);
    return SGX_SUCCESS;
}

/* `until` NULL waits without end, or until the enclave is lost. */
static int wait_for_event(uint64_t tcs, const struct timespec *until) {
    struct host_enclave *enclave;
    sem_t *event = event_of(tcs, &enclave);
    int result;

    if (!event)
        return SGX_ERROR_INVALID_PARAMETER;
    do
        result = until ? sem_timedwait(event, until) : sem_wait(event);
    while (result != 0 && errno == EINTR);
    host_enclave_release(enclave);
    return result == 0 ? SGX_SUCCESS : FAILED;
}

PUBLIC int sgx_thread_wait_untrusted_event_ocall(const void *self) {
    return wait_for_event((uint64_t)self, NULL);
}

PUBLIC int sgx_thread_set_untrusted_event_ocall(const void *waiter) {
    return set_event((uint64_t)waiter);
}

PUBLIC int sgx_thread_setwait_untrusted_events_ocall(const void *waiter, const void *self) {
    int status = set_event((uint64_t)waiter);
    return status == SGX_SUCCESS ? wait_for_event((uint64_t)self, NULL) : status;
}

PUBLIC int sgx_thread_set_multiple_untrusted_events_ocall(const void **waiters, size_t total) {
    for (size_t i = 0; i < total; i++) {
        int status = set_event((uint64_t)waiters[i]);
        if (status != SGX_SUCCESS)
            return status;
    }
    return SGX_SUCCESS;
}

PUBLIC int pthread_wait_timeout_ocall(unsigned long long waiter, unsigned long long timeout) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout > INT32_MAX ? INT32_MAX : (time_t)timeout;
    return wait_for_event(waiter, &until);
}

PUBLIC int pthread_wakeup_ocall(unsigned long long waiter) {
    return set_event(waiter);
}

struct start {
    struct host_enclave *enclave;
    const void *table;
    sem_t taken;
    bool has_tcs;
};

static bool take_tcs(struct host_enclave *enclave) {
    const struct timespec pause = {.tv_nsec = 1000000};
    bool taken = host_thread_of_caller(enclave) != NULL;

    for (int i = 0; !taken && enclave->made && i < LEAVING; i++) {
        nanosleep(&pause, NULL);
        taken = host_thread_of_caller(enclave) != NULL;
    }
    return taken;
}

/* Be a thread of the enclave's own; free its TCS, then wake who waits for its end. */
static void *run(void *argument) {
    struct start *start = argument;
    struct host_enclave *enclave = start->enclave;
    const void *table = start->table;
    uint64_t joined = 0;

    bool has_tcs = start->has_tcs = take_tcs(enclave);
    if (has_tcs)
        enclave->made++;
    sem_post(&start->taken); /* `start` is gone from here on */
    if (has_tcs) {
        host_enclave_call(enclave, ECMD_ECALL_PTHREAD, table, &joined);
        host_thread_leave(enclave);
        enclave->made--;
        if (joined)
            set_event(joined);
    }
    host_enclave_release(enclave);
    return NULL;
}

PUBLIC int pthread_create_ocall(unsigned long long self) {
    struct start start = {0};
    pthread_t thread;

    (void)self;
    start.enclave = host_enclave_of_caller(&start.table);
    if (!start.enclave)
        return FAILED;
    host_enclave_use(start.enclave);
    sem_init(&start.taken, 0, 0);
    if (pthread_create(&thread, NULL, run, &start) != 0) {
        host_enclave_release(start.enclave);
        return FAILED;
    }
    pthread_detach(thread);
    while (sem_wait(&start.taken) != 0)
        ;
    sem_destroy(&start.taken);
    return start.has_tcs ? SGX_SUCCESS : SGX_ERROR_OUT_OF_TCS;
}

/* CPUID faults in an enclave. The emulated processor answers as one with SGX. */
PUBLIC void sgx_oc_cpuidex(int cpuinfo[4], int leaf, int subleaf) {
    const void *table;
    struct host_enclave *enclave = host_enclave_of_caller(&table);
    struct service_request request = {.request = REQUEST_CPUID,
                                      .value = {(uint32_t)leaf, (uint32_t)subleaf}};

    memset(cpuinfo, 0, 4 * sizeof *cpuinfo);
    if (!enclave || host_enclave_ask(enclave, &request) != 0)
        return;
    for (int i = 0; i < 4; i++)
        cpuinfo[i] = (int)(uint32_t)request.value[i];
}
