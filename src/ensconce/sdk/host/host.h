/* SPDX-License-Identifier: Apache-2.0 */
/* The enclaves of a host process and their threads. */
#ifndef ENSCONCE_HOST_H
#define ENSCONCE_HOST_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "core/core.h"
#include "service.h"
#include "sgx_eid.h"
#include "sgx_error.h"
#include "sgx_report.h"

#define PUBLIC __attribute__((visibility("default")))

/* A TCS, with the untrusted stack and the event that belong to it. */
struct host_thread {
    struct host_enclave *enclave;
    uint64_t tcs;
    struct core_call call;
    sem_t event;
    uint32_t depth;
    sgx_status_t given_up; /* the TCS is stuck in the middle of something */
    _Atomic bool inside;
    struct host_thread *next; /* while it is free */
};

enum { IDLE_SOCKETS = 16 };

struct host_enclave {
    sgx_enclave_id_t id;
    uint32_t references, users; /* of this structure; of what `host_enclave_tear_down` frees */
    struct host_enclave *next;

    pthread_mutex_t lock; /* guards `free`, `idle`, `idle_count` */
    struct host_thread *threads, *free;
    uint32_t thread_count;
    int idle[IDLE_SOCKETS]; /* connections for requests that nobody uses just now */
    uint32_t idle_count;

    int socket;
    pthread_t listener;
    bool listening, core_open, unbind, aex_notify;
    uint64_t base, size;
    uint32_t generation;
    struct core_memory memory;
    struct core_enclave core;
    uint8_t token[SERVICE_TOKEN];
    sgx_target_info_t target;
    sgx_misc_attribute_t misc; /* as created */
    _Atomic uint32_t gone; /* why it can't be entered any more */
    _Atomic uint32_t made; /* threads of the enclave's own */
};

/* load.c */
sgx_status_t host_enclave_load(struct host_enclave *enclave, const struct service_hello *hello,
                               int file, uint8_t *features, size_t *features_size);
void host_enclave_tear_down(struct host_enclave *enclave);
void host_enclave_end(struct host_enclave *enclave, sgx_status_t why);
int host_enclave_ask(struct host_enclave *enclave, struct service_request *request);

/* threads.c */
struct host_thread *host_thread_of_caller(struct host_enclave *enclave);
void host_thread_done(struct host_thread *thread);
void host_thread_leave(struct host_enclave *enclave);
sgx_status_t host_thread_call(struct host_thread *thread, int64_t number, const void *table,
                              uint64_t ms);
bool host_enclave_is_inside(const struct host_enclave *enclave);

/* urts.c */
struct host_enclave *host_enclave_at(uint64_t address);
struct host_enclave *host_enclave_of_caller(const void **table);
sgx_status_t host_enclave_call(struct host_enclave *enclave, int64_t number, const void *table,
                               void *ms);
void host_enclave_use(struct host_enclave *enclave);
void host_enclave_reference(struct host_enclave *enclave);
void host_enclave_dereference(struct host_enclave *enclave);
void host_enclave_release(struct host_enclave *enclave);

#endif
