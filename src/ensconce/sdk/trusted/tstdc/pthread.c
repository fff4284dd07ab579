/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that the enclave makes: their beginning and their end. The rest of pthread is musl's.
   pthread_create queues a job and asks the host for a thread; whichever thread the host sends, by
   whichever TCS, does the oldest job. A host that sends one too many is turned away, and one that
   sends none keeps the job waiting. */
#include "pthread_impl.h"

#include <stddef.h>
#include <sys/mman.h>

#include "lock.h"
#include "sgx_lfence.h"
#include "sgx_spinlock.h"
#include "sgx_trts.h"
#include "tee_thread.h"

/* Made from sgx_pthread.edl, where the enclave imports it. */
sgx_status_t pthread_create_ocall(int *result, unsigned long long self)
    __attribute__((__weak__, visibility("hidden")));

/* Linked only when something has locked a stream. */
void __do_orphaned_stdio_locks(void) __attribute__((__weak__, visibility("hidden")));

#define OWNER_DIED 0x40000000

/* A thread, from its creation until it is joined or, detached, has ended. */
struct made {
    struct pthread thread; /* at the start: a pthread_t is its address */
    void *tsd[PTHREAD_KEYS_MAX];
    void *(*start)(void *);
    void *argument;
    int returns_int; /* C11's threads */
    uint64_t *answer; /* the host's word for the TCS to wake when the thread has left */
    struct made *next;
};

/* Jobs that no thread has begun; in this order the host was asked for threads. */
static struct made *first;
static sgx_spinlock_t jobs_lock = SGX_SPINLOCK_INITIALIZER;

/* One creation at a time: the job that a refused one takes back is then its own. */
static volatile int creating[1];

static void append(struct made *made)
{
    struct made **link = &first;
    sgx_spin_lock(&jobs_lock);
    while (*link != NULL) link = &(*link)->next;
    *link = made;
    sgx_spin_unlock(&jobs_lock);
}

static struct made *take_first(void)
{
    sgx_spin_lock(&jobs_lock);
    struct made *job = first;
    if (job != NULL) first = job->next;
    sgx_spin_unlock(&jobs_lock);
    return job;
}

/* False when a thread has begun it meanwhile. */
static int take_back(const struct made *made)
{
    int found = 0;
    sgx_spin_lock(&jobs_lock);
    for (struct made **link = &first; *link != NULL; link = &(*link)->next)
        if (*link == made) {
            *link = made->next;
            found = 1;
            break;
        }
    sgx_spin_unlock(&jobs_lock);
    return found;
}

/* Stack and scheduling are those of a TCS. A size that nobody chose is no wish. */
static int cannot_have(const pthread_attr_t *wish)
{
    size_t room = tee_thread()->stack_base - tee_thread()->stack_limit;
    if (wish->_a_stackaddr != 0) return EINVAL;
    if (wish->_a_sched) return EPERM;
    return wish->_a_stacksize > room && wish->_a_stacksize > __default_stacksize ? EAGAIN : 0;
}

/* Ask the host for a thread; false when none will come. */
static int ask_host(struct made *made)
{
    int answer = SGX_ERROR_UNEXPECTED;
    LOCK(creating);
    append(made);
    sgx_status_t status = pthread_create_ocall(
        &answer, tee_thread()->self - g_global_data.thread_template.self);
    int refused = (status != SGX_SUCCESS || answer != SGX_SUCCESS) && take_back(made);
    UNLOCK(creating);
    return !refused;
}

int __pthread_create(pthread_t *restrict result, const pthread_attr_t *restrict wish,
                     void *(*start)(void *), void *restrict argument)
{
    int is_c11 = wish == __ATTRP_C11_THREAD, is_plain = wish == NULL || is_c11;
    if (pthread_create_ocall == NULL) return ENOSYS;
    int fault = is_plain ? 0 : cannot_have(wish);
    if (fault != 0) return fault;
    struct made *made = __mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) return EAGAIN;
    made->thread.map_base = (unsigned char *)made; /* joining unmaps it */
    made->thread.map_size = sizeof *made;
    made->thread.tsd = made->tsd;
    made->thread.detach_state = !is_plain && wish->_a_detach ? DT_DETACHED : DT_JOINABLE;
    made->start = start;
    made->argument = argument;
    made->returns_int = is_c11;
    *result = &made->thread; /* now, as a detached one may be gone when the host has answered */
    if (ask_host(made)) return 0;
    __munmap(made, sizeof *made);
    return EAGAIN;
}

int tee_run_thread(void *ms, uintptr_t tcs)
{
    if (!sgx_is_outside_enclave(ms, sizeof(uint64_t)) || (uintptr_t)ms % sizeof(uint64_t) != 0)
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_lfence();
    struct made *made = take_first();
    if (made == NULL) return SGX_ERROR_ECALL_NOT_ALLOWED;
    int status = tee_start_thread(tcs);
    if (status != SGX_SUCCESS) return status;
    made->answer = ms;
    tee_thread_become(tee_thread(), &made->thread);
    if (made->returns_int)
        __pthread_exit((void *)(intptr_t)((int (*)(void *))(void *)made->start)(made->argument));
    __pthread_exit(made->start(made->argument));
}

/* Who waits for a mutex that the thread still holds is told, if it is a robust one. */
static void abandon_mutexes(struct pthread *self)
{
    for (;;) {
        volatile void *volatile *link = (volatile void *volatile *)self->robust_list.head;
        if (link == NULL || link == (volatile void *volatile *)&self->robust_list.head) return;
        pthread_mutex_t *mutex = (void *)((char *)link - offsetof(pthread_mutex_t, _m_next));
        int waiters = mutex->_m_waiters;
        self->robust_list.head = *link;
        if (a_swap(&mutex->_m_lock, OWNER_DIED) < 0 || waiters != 0)
            __wake(&mutex->_m_lock, 1, 1);
    }
}

/* The thread is on its TCS's own structure again, and in no list. Its joiner, if it sleeps, is
   woken by the host after this thread has left: the TCS is then free for another. */
static void give_up(struct made *made)
{
    uint64_t *answer = made->answer;
    if (a_cas(&made->thread.detach_state, DT_JOINABLE, DT_EXITING) == DT_DETACHED) {
        __munmap(made, sizeof *made);
        return;
    }
    a_store(&made->thread.detach_state, DT_EXITED); /* from here on it may be gone */
    uint64_t joiner = tee_futex_take(&made->thread.detach_state);
    if (joiner != 0) *(volatile uint64_t *)answer = joiner;
}

/* An ECALL's thread may end too: its ECALL then ends with SGX_PTHREAD_EXIT, and the TCS's next
   begins anew. Within an OCALL's ECALL no thread can end, as the OCALL cannot. */
_Noreturn void __pthread_exit(void *result)
{
    struct pthread *self = __pthread_self();
    struct thread_data *thread = tee_thread();
    if (!tee_is_root(thread)) tee_abort();
    self->result = result;
    while (self->cancelbuf != NULL) {
        struct __ptcb *handler = self->cancelbuf;
        self->cancelbuf = handler->__next;
        handler->__f(handler->__x);
    }
    tee_libc_end_thread();
    abandon_mutexes(self);
    if (__do_orphaned_stdio_locks != NULL) __do_orphaned_stdio_locks();
    if (tee_start_thread(thread->self - g_global_data.thread_template.self) != SGX_SUCCESS)
        tee_abort();
    if ((char *)self == (char *)thread + TEE_PTHREAD_OFFSET) tee_leave(SGX_PTHREAD_EXIT);
    __tl_lock();
    self->next->prev = self->prev;
    self->prev->next = self->next;
    __tl_unlock();
    give_up((struct made *)self);
    tee_leave(SGX_SUCCESS);
}

/* Of musl's pthread_cleanup_push and pthread_cleanup_pop. */
void __do_cleanup_push(struct __ptcb *handler)
{
    handler->__next = __pthread_self()->cancelbuf;
    __pthread_self()->cancelbuf = handler;
}

void __do_cleanup_pop(struct __ptcb *handler)
{
    __pthread_self()->cancelbuf = handler->__next;
}

weak_alias(__pthread_exit, pthread_exit);
weak_alias(__pthread_create, pthread_create);
