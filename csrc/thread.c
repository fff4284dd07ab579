/* SPDX-License-Identifier: Apache-2.0 */
/* What a host thread is given when it first runs an enclave, and loses when it ends. */
#include "core.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#define PR_SYS_DISPATCH_ON 1
#endif

enum { GUARD = CORE_PAGE, STATE = CORE_PAGE };

static_assert(sizeof(struct core_thread) <= STATE, "a thread's state fits above its stack");
static_assert(CORE_STACK_SIZE < CORE_STACK_SPAN, "the stack ends below the thread's state");

/* By thread id, for core_signal_entry: linear probing, 0 ends a run, -1 was removed. */
struct entry {
    _Atomic int32_t tid;
    struct core_thread *thread;
};
__attribute__((visibility("hidden"))) struct entry core_thread_table[CORE_THREAD_SLOTS];
static_assert(sizeof(struct entry) == 16, "core_signal_entry reads the table");

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t key;
static _Thread_local struct core_thread *self __attribute__((tls_model("initial-exec")));

static void enlist(struct core_thread *thread) {
    pthread_mutex_lock(&table_lock);
    uint32_t start = (uint32_t)thread->tid % CORE_THREAD_SLOTS;
    for (uint32_t i = 0; i < CORE_THREAD_SLOTS; i++) {
        struct entry *entry = &core_thread_table[(start + i) % CORE_THREAD_SLOTS];
        if (entry->tid > 0)
            continue;
        entry->thread = thread;
        atomic_store(&entry->tid, thread->tid);
        break; /* when none is free, the alternate stack still tells who the thread is */
    }
    pthread_mutex_unlock(&table_lock);
}

static void delist(const struct core_thread *thread) {
    pthread_mutex_lock(&table_lock);
    for (uint32_t i = 0; i < CORE_THREAD_SLOTS; i++)
        if (core_thread_table[i].thread == thread && core_thread_table[i].tid > 0)
            atomic_store(&core_thread_table[i].tid, -1);
    pthread_mutex_unlock(&table_lock);
}

static uint8_t *stack_of(const struct core_thread *thread) {
    return (uint8_t *)thread - CORE_STACK_SPAN;
}

static void end(void *argument) {
    struct core_thread *thread = argument;
    stack_t now, none = {.ss_flags = SS_DISABLE};

    if (thread->block)
        prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
    if (sigaltstack(NULL, &now) == 0 && now.ss_sp == stack_of(thread))
        sigaltstack(&none, NULL);
    delist(thread);
    self = NULL;
    for (int i = 0; i < CORE_DEPTH; i++)
        if (thread->slots[i])
            munmap(thread->slots[i], CORE_XSAVE_MAX);
    munmap(stack_of(thread) - GUARD, GUARD + CORE_STACK_SPAN + STATE);
}

int core_thread_init(void) {
    return -pthread_key_create(&key, end);
}

/* Let the thread take the signals that enclaves raise, and make SYSCALL and CPUID raise them. */
static void prepare(struct core_thread *thread) {
    const int needed[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, core_kick_signal()};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        sigaddset(&set, needed[i]);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    thread->selector = 0;
    thread->block = prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, core_exempt_begin,
                          core_exempt_end - core_exempt_begin, &thread->selector) == 0;
    core_set_cpuid_faulting(true);
    thread->tid = (int32_t)syscall(SYS_gettid);
    thread->generation = core_generation;
    enlist(thread);
}

static struct core_thread *make(void) {
    const size_t size = GUARD + CORE_STACK_SPAN + STATE;
    uint8_t *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED)
        return NULL;
    struct core_thread *thread = (struct core_thread *)(map + GUARD + CORE_STACK_SPAN);
    stack_t stack = {.ss_sp = stack_of(thread), .ss_size = CORE_STACK_SIZE};
    thread->self = thread;
    if (mprotect(map, GUARD, PROT_NONE) != 0 || pthread_setspecific(key, thread) != 0 ||
        sigaltstack(&stack, NULL) != 0) {
        pthread_setspecific(key, NULL);
        munmap(map, size);
        return NULL;
    }
    prepare(thread);
    return thread;
}

/* The calling thread's state, made on first use; NULL when there is no memory for it. */
struct core_thread *core_thread_self(void) {
    if (!self)
        self = make();
    else if (self->generation != core_generation)
        prepare(self);
    return self;
}

/* A host handler is about to run on this thread; safe in a signal handler. */
void core_thread_note_signal(void) {
    if (self)
        self->signals++;
}

/* The host is about to attend to all signals so far: later ones cancel its next entry. */
void core_thread_attend(void) {
    struct core_thread *thread = core_thread_self();
    if (thread)
        thread->seen = thread->signals;
}

/* In the child of a fork: other threads are gone, and Syscall User Dispatch is off. */
void core_thread_forked(void) {
    pthread_mutex_init(&table_lock, NULL);
    memset(core_thread_table, 0, sizeof core_thread_table);
    if (!self)
        return;
    self->block = 0;
    self->selector = 0;
    self->tid = (int32_t)syscall(SYS_gettid);
}

/* Have memory ready for the extended state at the thread's present depth. */
bool core_reserve_slot(struct core_thread *thread) {
    if (thread->depth >= CORE_DEPTH)
        return false;
    if (thread->slots[thread->depth])
        return true;
    void *slot = mmap(NULL, CORE_XSAVE_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
    if (slot == MAP_FAILED)
        return false;
    thread->slots[thread->depth] = slot;
    return true;
}
