/* SPDX-License-Identifier: Apache-2.0 */
/* Locks and condition variables. Each has a spinlock, held for a few instructions, and queues of
   the threads that wait. A waiting thread sleeps outside, and looks again whenever the host lets
   it in: who has a lock is decided by what is in the enclave alone. */
#include "sgx_thread.h"

#include <errno.h>

#include "sgx_error.h"
#include "sgx_spinlock.h"
#include "trts.h"

/* Made from sgx_tstdc.edl. */
sgx_status_t sgx_thread_wait_untrusted_event_ocall(int *result, const void *self);
sgx_status_t sgx_thread_set_untrusted_event_ocall(int *result, const void *waiter);

/* Hosts know a thread by its TCS. */
static const void *tcs_of(sgx_thread_t thread)
{
    return (const void *)(thread - g_global_data.thread_template.self);
}

static void sleep_outside(void)
{
    int result;
    sgx_thread_wait_untrusted_event_ocall(&result, tcs_of(sgx_thread_self()));
}

static void wake(sgx_thread_t thread)
{
    int result;
    if (thread != SGX_THREAD_T_NULL) sgx_thread_set_untrusted_event_ocall(&result, tcs_of(thread));
}

/* Queues: a thread is in one at most, linked by its own thread data. */
static uint64_t *next_of(sgx_thread_t thread)
{
    return &((struct thread_data *)thread)->next;
}

static void append(sgx_thread_queue_t *queue, sgx_thread_t thread)
{
    *next_of(thread) = SGX_THREAD_T_NULL;
    if (queue->m_first == SGX_THREAD_T_NULL)
        queue->m_first = thread;
    else
        *next_of(queue->m_last) = thread;
    queue->m_last = thread;
}

static sgx_thread_t take_first(sgx_thread_queue_t *queue)
{
    sgx_thread_t first = queue->m_first;
    if (first == SGX_THREAD_T_NULL) return first;
    queue->m_first = *next_of(first);
    if (queue->m_first == SGX_THREAD_T_NULL) queue->m_last = SGX_THREAD_T_NULL;
    *next_of(first) = SGX_THREAD_T_NULL;
    return first;
}

static int is_in(const sgx_thread_queue_t *queue, sgx_thread_t thread)
{
    sgx_thread_t at = queue->m_first;
    while (at != SGX_THREAD_T_NULL && at != thread) at = *next_of(at);
    return at == thread;
}

static void leave(sgx_thread_queue_t *queue, sgx_thread_t thread)
{
    sgx_thread_t before = SGX_THREAD_T_NULL, at = queue->m_first;
    while (at != SGX_THREAD_T_NULL && at != thread) before = at, at = *next_of(at);
    if (at == SGX_THREAD_T_NULL) return;
    if (before == SGX_THREAD_T_NULL)
        queue->m_first = *next_of(at);
    else
        *next_of(before) = *next_of(at);
    if (queue->m_last == at) queue->m_last = before;
    *next_of(at) = SGX_THREAD_T_NULL;
}

/* First come, first served: whoever is at the head of the queue may go. */
static int is_first(const sgx_thread_queue_t *queue, sgx_thread_t thread)
{
    return queue->m_first == SGX_THREAD_T_NULL || queue->m_first == thread;
}

sgx_thread_t sgx_thread_self(void)
{
    return (sgx_thread_t)tee_thread();
}

int sgx_thread_equal(sgx_thread_t a, sgx_thread_t b)
{
    return a == b;
}

int sgx_thread_mutex_init(sgx_thread_mutex_t *mutex, const sgx_thread_mutexattr_t *unused)
{
    (void)unused;
    if (mutex == NULL) return EINVAL;
    *mutex = (sgx_thread_mutex_t)SGX_THREAD_MUTEX_INITIALIZER;
    return 0;
}

int sgx_thread_mutex_destroy(sgx_thread_mutex_t *mutex)
{
    if (mutex == NULL) return EINVAL;
    sgx_spin_lock(&mutex->m_lock);
    int used = mutex->m_owner != SGX_THREAD_T_NULL || mutex->m_queue.m_first != SGX_THREAD_T_NULL;
    if (!used) mutex->m_control = 0, mutex->m_refcount = 0;
    sgx_spin_unlock(&mutex->m_lock);
    return used ? EBUSY : 0;
}

static int is_valid(const sgx_thread_mutex_t *mutex)
{
    return mutex != NULL && (mutex->m_control == SGX_THREAD_MUTEX_NONRECURSIVE ||
                             mutex->m_control == SGX_THREAD_MUTEX_RECURSIVE);
}

/* With the spinlock held: become owner if nobody is, and nobody was here before. */
static int take(sgx_thread_mutex_t *mutex, sgx_thread_t self)
{
    int again = mutex->m_owner == self && mutex->m_control == SGX_THREAD_MUTEX_RECURSIVE;
    if (!again &&
        (mutex->m_owner != SGX_THREAD_T_NULL || !is_first(&mutex->m_queue, self)))
        return 0;
    if (!again) leave(&mutex->m_queue, self);
    mutex->m_owner = self;
    mutex->m_refcount++;
    return 1;
}

int sgx_thread_mutex_lock(sgx_thread_mutex_t *mutex)
{
    sgx_thread_t self = sgx_thread_self();
    if (!is_valid(mutex)) return EINVAL;
    for (;;) {
        sgx_spin_lock(&mutex->m_lock);
        int done = take(mutex, self);
        if (!done && !is_in(&mutex->m_queue, self)) append(&mutex->m_queue, self);
        sgx_spin_unlock(&mutex->m_lock);
        if (done) return 0;
        sleep_outside();
    }
}

int sgx_thread_mutex_trylock(sgx_thread_mutex_t *mutex)
{
    if (!is_valid(mutex)) return EINVAL;
    sgx_spin_lock(&mutex->m_lock);
    int done = take(mutex, sgx_thread_self());
    sgx_spin_unlock(&mutex->m_lock);
    return done ? 0 : EBUSY;
}

/* Give it back; `next` is then to be woken. */
static int give(sgx_thread_mutex_t *mutex, sgx_thread_t *next)
{
    *next = SGX_THREAD_T_NULL;
    if (!is_valid(mutex)) return EINVAL;
    sgx_spin_lock(&mutex->m_lock);
    int own = mutex->m_owner == sgx_thread_self();
    if (own && --mutex->m_refcount == 0) {
        mutex->m_owner = SGX_THREAD_T_NULL;
        *next = mutex->m_queue.m_first;
    }
    sgx_spin_unlock(&mutex->m_lock);
    return own ? 0 : EPERM;
}

int sgx_thread_mutex_unlock(sgx_thread_mutex_t *mutex)
{
    sgx_thread_t next;
    int status = give(mutex, &next);
    wake(next);
    return status;
}

int sgx_thread_cond_init(sgx_thread_cond_t *cond, const sgx_thread_condattr_t *unused)
{
    (void)unused;
    if (cond == NULL) return EINVAL;
    *cond = (sgx_thread_cond_t)SGX_THREAD_COND_INITIALIZER;
    return 0;
}

int sgx_thread_cond_destroy(sgx_thread_cond_t *cond)
{
    if (cond == NULL) return EINVAL;
    sgx_spin_lock(&cond->m_lock);
    int used = cond->m_queue.m_first != SGX_THREAD_T_NULL;
    sgx_spin_unlock(&cond->m_lock);
    return used ? EBUSY : 0;
}

/* With the condition's spinlock held: is this thread still to wait? */
static int is_waiting(sgx_thread_cond_t *cond, sgx_thread_t self)
{
    sgx_spin_lock(&cond->m_lock);
    int waiting = is_in(&cond->m_queue, self);
    sgx_spin_unlock(&cond->m_lock);
    return waiting;
}

int sgx_thread_cond_wait(sgx_thread_cond_t *cond, sgx_thread_mutex_t *mutex)
{
    sgx_thread_t self = sgx_thread_self(), next;
    if (cond == NULL) return EINVAL;
    if (!is_valid(mutex)) return EINVAL;
    if (mutex->m_owner != self || mutex->m_refcount != 1) return EPERM;
    sgx_spin_lock(&cond->m_lock);
    append(&cond->m_queue, self);
    sgx_spin_unlock(&cond->m_lock);
    give(mutex, &next);
    wake(next);
    while (is_waiting(cond, self)) sleep_outside();
    return sgx_thread_mutex_lock(mutex);
}

static sgx_thread_t take_waiter(sgx_thread_cond_t *cond)
{
    sgx_spin_lock(&cond->m_lock);
    sgx_thread_t first = take_first(&cond->m_queue);
    sgx_spin_unlock(&cond->m_lock);
    return first;
}

int sgx_thread_cond_signal(sgx_thread_cond_t *cond)
{
    if (cond == NULL) return EINVAL;
    wake(take_waiter(cond));
    return 0;
}

int sgx_thread_cond_broadcast(sgx_thread_cond_t *cond)
{
    sgx_thread_t waiter;
    if (cond == NULL) return EINVAL;
    while ((waiter = take_waiter(cond)) != SGX_THREAD_T_NULL) wake(waiter);
    return 0;
}

int sgx_thread_rwlock_init(sgx_thread_rwlock_t *rwlock, const sgx_thread_rwlockattr_t *unused)
{
    (void)unused;
    if (rwlock == NULL) return EINVAL;
    *rwlock = (sgx_thread_rwlock_t)SGX_THREAD_LOCK_INITIALIZER;
    return 0;
}

int sgx_thread_rwlock_destroy(sgx_thread_rwlock_t *rwlock)
{
    if (rwlock == NULL) return EINVAL;
    sgx_spin_lock(&rwlock->m_lock);
    int used = rwlock->m_owner != SGX_THREAD_T_NULL || rwlock->m_reader_count != 0 ||
               rwlock->m_writers_waiting != 0 ||
               rwlock->m_reader_queue.m_first != SGX_THREAD_T_NULL;
    sgx_spin_unlock(&rwlock->m_lock);
    return used ? EBUSY : 0;
}

/* With the spinlock held: become a reader, unless there is a writer or one waits. */
static int take_to_read(sgx_thread_rwlock_t *rwlock, sgx_thread_t self)
{
    if (rwlock->m_owner != SGX_THREAD_T_NULL || rwlock->m_writers_waiting != 0) return 0;
    leave(&rwlock->m_reader_queue, self);
    rwlock->m_reader_count++;
    return 1;
}

/* With the spinlock held: become the writer, unless there are others, inside or before us. */
static int take_to_write(sgx_thread_rwlock_t *rwlock, sgx_thread_t self)
{
    if (rwlock->m_owner != SGX_THREAD_T_NULL || rwlock->m_reader_count != 0 ||
        !is_first(&rwlock->m_writer_queue, self))
        return 0;
    if (rwlock->m_writer_queue.m_first == self) {
        leave(&rwlock->m_writer_queue, self);
        rwlock->m_writers_waiting--;
    }
    rwlock->m_owner = self;
    return 1;
}

int sgx_thread_rwlock_rdlock(sgx_thread_rwlock_t *rwlock)
{
    sgx_thread_t self = sgx_thread_self();
    if (rwlock == NULL) return EINVAL;
    for (;;) {
        sgx_spin_lock(&rwlock->m_lock);
        int own = rwlock->m_owner == self;
        int done = !own && take_to_read(rwlock, self);
        if (!own && !done && !is_in(&rwlock->m_reader_queue, self))
            append(&rwlock->m_reader_queue, self);
        sgx_spin_unlock(&rwlock->m_lock);
        if (own) return EDEADLK;
        if (done) return 0;
        sleep_outside();
    }
}

int sgx_thread_rwlock_wrlock(sgx_thread_rwlock_t *rwlock)
{
    sgx_thread_t self = sgx_thread_self();
    if (rwlock == NULL) return EINVAL;
    for (;;) {
        sgx_spin_lock(&rwlock->m_lock);
        int own = rwlock->m_owner == self;
        int done = !own && take_to_write(rwlock, self);
        if (!own && !done && !is_in(&rwlock->m_writer_queue, self)) {
            append(&rwlock->m_writer_queue, self);
            rwlock->m_writers_waiting++;
        }
        sgx_spin_unlock(&rwlock->m_lock);
        if (own) return EDEADLK;
        if (done) return 0;
        sleep_outside();
    }
}

int sgx_thread_rwlock_tryrdlock(sgx_thread_rwlock_t *rwlock)
{
    if (rwlock == NULL) return EINVAL;
    sgx_spin_lock(&rwlock->m_lock);
    int done = take_to_read(rwlock, sgx_thread_self());
    sgx_spin_unlock(&rwlock->m_lock);
    return done ? 0 : EBUSY;
}

int sgx_thread_rwlock_trywrlock(sgx_thread_rwlock_t *rwlock)
{
    if (rwlock == NULL) return EINVAL;
    sgx_spin_lock(&rwlock->m_lock);
    int done = take_to_write(rwlock, sgx_thread_self());
    sgx_spin_unlock(&rwlock->m_lock);
    return done ? 0 : EBUSY;
}

int sgx_thread_rwlock_rdunlock(sgx_thread_rwlock_t *rwlock)
{
    sgx_thread_t writer = SGX_THREAD_T_NULL;
    if (rwlock == NULL) return EINVAL;
    sgx_spin_lock(&rwlock->m_lock);
    int own = rwlock->m_reader_count != 0;
    if (own && --rwlock->m_reader_count == 0) writer = rwlock->m_writer_queue.m_first;
    sgx_spin_unlock(&rwlock->m_lock);
    wake(writer);
    return own ? 0 : EPERM;
}

/* A writer wakes the next writer, or all readers when there is none. */
int sgx_thread_rwlock_wrunlock(sgx_thread_rwlock_t *rwlock)
{
    if (rwlock == NULL) return EINVAL;
    sgx_spin_lock(&rwlock->m_lock);
    int own = rwlock->m_owner == sgx_thread_self();
    sgx_thread_t writer = rwlock->m_writer_queue.m_first;
    if (own) rwlock->m_owner = SGX_THREAD_T_NULL;
    sgx_spin_unlock(&rwlock->m_lock);
    if (!own) return EPERM;
    if (writer != SGX_THREAD_T_NULL) {
        wake(writer);
        return 0;
    }
    for (;;) {
        sgx_spin_lock(&rwlock->m_lock);
        sgx_thread_t reader = take_first(&rwlock->m_reader_queue);
        sgx_spin_unlock(&rwlock->m_lock);
        if (reader == SGX_THREAD_T_NULL) return 0;
        wake(reader);
    }
}

int sgx_thread_rwlock_unlock(sgx_thread_rwlock_t *rwlock)
{
    if (rwlock == NULL) return EINVAL;
    if (rwlock->m_owner == sgx_thread_self()) return sgx_thread_rwlock_wrunlock(rwlock);
    return sgx_thread_rwlock_rdunlock(rwlock);
}
