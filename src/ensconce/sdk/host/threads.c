/* SPDX-License-Identifier: Apache-2.0 */
/* Which host thread uses which TCS, and the conversation with the trusted runtime: the vendor's
 * convention, as ensconce/enclave/thread.py has it. */
#include "host.h"

#include <errno.h>
#include <stdlib.h>

enum { ECMD_ORET = -2, ECMD_EXCEPT = -3, ERET = -1, RED_ZONE = 128 };

struct ocall_table {
    size_t count;
    sgx_status_t (*function[])(void *);
};

/* What a host thread holds of one enclave. */
struct binding {
    struct host_enclave *enclave;
    struct host_thread *thread;
    struct binding *next;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;

/* Where the enclave was torn down meanwhile its threads are freed already. */
static void give_back(struct host_enclave *enclave, struct host_thread *thread) {
    pthread_mutex_lock(&enclave->lock);
    if (enclave->threads && !thread->given_up) {
        thread->next = enclave->free;
        enclave->free = thread;
    }
    pthread_mutex_unlock(&enclave->lock);
}

static struct host_thread *take(struct host_enclave *enclave) {
    pthread_mutex_lock(&enclave->lock);
    struct host_thread *thread = enclave->free;
    if (thread)
        enclave->free = thread->next;
    pthread_mutex_unlock(&enclave->lock);
    return thread;
}

static void drop(struct binding *binding) {
    give_back(binding->enclave, binding->thread);
    host_enclave_dereference(binding->enclave);
    free(binding);
}

static void thread_ends(void *first) {
    for (struct binding *at = first, *next; at; at = next) {
        next = at->next;
        drop(at);
    }
}

static void make_key(void) {
    pthread_key_create(&key, thread_ends);
}

/* The calling thread's hold on an enclave; holds on enclaves that are gone are let go. */
static struct binding *find(const struct host_enclave *enclave) {
    pthread_once(&once, make_key);
    struct binding *first = pthread_getspecific(key), *found = NULL;
    for (struct binding **link = &first; *link;) {
        struct binding *at = *link;
        if (at->enclave == enclave) {
            found = at;
        } else if (at->enclave->threads == NULL) {
            *link = at->next;
            drop(at);
            continue;
        }
        link = &at->next;
    }
    pthread_setspecific(key, first);
    return found;
}

static void forget(struct binding *binding) {
    struct binding *first = pthread_getspecific(key);
    for (struct binding **link = &first; *link; link = &(*link)->next)
        if (*link == binding) {
            *link = binding->next;
            break;
        }
    pthread_setspecific(key, first);
    drop(binding);
}

/* The TCS of the calling thread, or a free one that it keeps from now on; NULL if none is free. */
struct host_thread *host_thread_of_caller(struct host_enclave *enclave) {
    struct binding *binding = find(enclave);
    if (binding && binding->thread->given_up && binding->thread->depth == 0) {
        forget(binding);
        binding = NULL;
    }
    if (binding)
        return binding->thread;
    struct host_thread *thread = take(enclave);
    binding = thread ? malloc(sizeof *binding) : NULL;
    if (!binding) {
        if (thread)
            give_back(enclave, thread);
        return NULL;
    }
    host_enclave_reference(enclave);
    *binding = (struct binding){enclave, thread, pthread_getspecific(key)};
    pthread_setspecific(key, binding);
    return thread;
}

/* The calling thread's TCS, if it has one that no call is on, is free again. */
void host_thread_leave(struct host_enclave *enclave) {
    struct binding *binding = find(enclave);
    if (binding && binding->thread->depth == 0)
        forget(binding);
}

/* After a call: an enclave that wants its TCSs unbound has this one back. */
void host_thread_done(struct host_thread *thread) {
    if (thread->enclave->unbind)
        host_thread_leave(thread->enclave);
}

bool host_enclave_is_inside(const struct host_enclave *enclave) {
    for (uint32_t i = 0; i < enclave->thread_count; i++)
        if (enclave->threads[i].inside)
            return true;
    return false;
}

/* Enter; negative when the enclave is gone. */
static int go(struct host_thread *thread, uint32_t function, int64_t rdi, uint64_t rsi,
              uint64_t rsp) {
    int result = -EINTR;
    thread->inside = true;
    if (!thread->enclave->gone)
        result = core_call_enter(&thread->call, function, thread->tcs, (uint64_t)rdi, rsi, rsp);
    if (result <= 0)
        thread->inside = false;
    return result;
}

static sgx_status_t why_gone(struct host_thread *thread, int result) {
    sgx_status_t why = (sgx_status_t)thread->enclave->gone;
    if (!why)
        why = result == -ENODEV ? SGX_ERROR_ENCLAVE_LOST : SGX_ERROR_UNEXPECTED;
    return why;
}

static sgx_status_t vanish(struct host_thread *thread, sgx_status_t why) {
    if (thread->enclave->gone)
        return (sgx_status_t)thread->enclave->gone;
    host_enclave_end(thread->enclave, why);
    return why;
}

static uint64_t below(uint64_t rsp) {
    return (rsp - RED_ZONE) & ~(uint64_t)63;
}

/* Let the enclave handle its exception and resume it. Returns how that came out, *status else. */
static int handle_exception(struct host_thread *thread, sgx_status_t *status) {
    struct core_call *call = &thread->call;
    uint64_t rsp = call->rsp;

    if (call->run.function == CORE_EENTER) {
        *status = vanish(thread, SGX_ERROR_ENCLAVE_LOST);
        return 0;
    }
    if (thread->enclave->aex_notify)
        return go(thread, CORE_EENTER, ECMD_EXCEPT, 0, rsp);
    int outcome = go(thread, CORE_EENTER, ECMD_EXCEPT, 0, below(rsp));
    if (outcome < 0)
        return outcome;
    if (outcome == 0 && call->rdi == (uint64_t)ERET) {
        sgx_status_t answer = (sgx_status_t)(uint32_t)call->rsi;
        if (answer == SGX_SUCCESS)
            return go(thread, CORE_ERESUME, 0, 0, rsp);
        if (answer == SGX_ERROR_ENCLAVE_LOST) {
            *status = vanish(thread, SGX_ERROR_ENCLAVE_LOST);
            return 0;
        }
    } else if (outcome > 0 && call->run.function == CORE_EENTER) {
        *status = vanish(thread, SGX_ERROR_ENCLAVE_LOST);
        return 0;
    }
    *status = vanish(thread, SGX_ERROR_ENCLAVE_CRASHED);
    return 0;
}

static sgx_status_t dispatch(const struct ocall_table *table, int32_t number, uint64_t ms) {
    if (number < 0 || !table || (size_t)number >= table->count || !table->function[number])
        return SGX_ERROR_INVALID_FUNCTION;
    return table->function[number]((void *)(uintptr_t)ms);
}

/* Until the ECALL has ended. An error of *stuck leaves the TCS in the middle of something. */
static sgx_status_t converse(struct host_thread *thread, int64_t number, const void *table,
                             uint64_t ms, uint64_t rsp, sgx_status_t *stuck) {
    struct core_call *call = &thread->call;
    int outcome = go(thread, CORE_EENTER, number, ms, rsp);

    for (;;) {
        if (outcome < 0)
            return *stuck = why_gone(thread, outcome);
        if (outcome > 0) {
            outcome = handle_exception(thread, stuck);
            if (*stuck)
                return *stuck;
            continue;
        }
        if (call->rdi == (uint64_t)ERET)
            return (sgx_status_t)(uint32_t)call->rsi;
        rsp = call->rsp;
        sgx_status_t status = dispatch(table, (int32_t)call->rdi, call->rsi);
        if (thread->given_up)
            return thread->given_up;
        outcome = go(thread, CORE_EENTER, ECMD_ORET, status, rsp);
    }
}

/* Make an ECALL, or give a command, on the calling thread's TCS. */
sgx_status_t host_thread_call(struct host_thread *thread, int64_t number, const void *table,
                              uint64_t ms) {
    sgx_status_t stuck = SGX_SUCCESS;
    uint64_t outer = thread->call.rsp;
    uint64_t rsp = thread->depth ? below(outer) : 0;

    thread->depth++;
    sgx_status_t status = converse(thread, number, table, ms, rsp, &stuck);
    thread->depth--;
    thread->call.rsp = outer;
    thread->inside = false;
    if (stuck)
        thread->given_up = stuck;
    else if (status == SGX_ERROR_ENCLAVE_CRASHED || status == SGX_ERROR_ENCLAVE_LOST)
        vanish(thread, status);
    return status;
}
