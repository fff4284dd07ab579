/* SPDX-License-Identifier: Apache-2.0 */
/* musl in an enclave: its start, its threads' start, and the few system calls it gets. */
#include "libc.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "locale_impl.h"
#include "pages.h"
#include "pthread_impl.h"
#include "sgx_spinlock.h"
#include "sgx_trts.h"
#include "tee_thread.h"
#include "tstdc.h"

/* Where a thread's values for pthread keys are, in its page of thread data. */
#define TSD_OFFSET 1024

_Static_assert(sizeof(struct thread_data) <= TEE_SELF_OFFSET, "musl's thread is behind ours");
_Static_assert(TEE_SELF_OFFSET + sizeof(void *) <= TEE_PTHREAD_OFFSET, "and behind its pointer");
_Static_assert(TEE_PTHREAD_OFFSET + sizeof(struct pthread) <= TSD_OFFSET, "and before its data");
_Static_assert(TSD_OFFSET + PTHREAD_KEYS_MAX * sizeof(void *) <= PAGE, "all in one page");

/* Exported: a memory-measuring debugger reads it. */
__attribute__((visibility("default"))) size_t g_peak_heap_used;

uint32_t tee_refused_syscalls[TEE_SYSCALLS];

static struct pages pages;
static sgx_spinlock_t pages_lock = SGX_SPINLOCK_INITIALIZER;

int tee_libc_start(void *heap, size_t heap_size)
{
    static uint64_t random[2]; /* the allocator's cookies come from AT_RANDOM */
    static size_t auxiliary[] = {AT_RANDOM, 0, AT_PAGESZ, PAGE, 0, 0};
    if (pages_open(&pages, heap, heap_size) != 0) return SGX_ERROR_OUT_OF_MEMORY;
    if (sgx_read_rand((unsigned char *)random, sizeof random) != SGX_SUCCESS)
        return SGX_ERROR_UNEXPECTED;
    auxiliary[1] = (size_t)random;
    libc.auxv = auxiliary;
    libc.page_size = PAGE;
    libc.secure = 1;
    libc.can_do_threads = 1;
    /* The host may enter by several TCSs at any time: locks are always needed. */
    libc.threaded = 1;
    libc.need_locks = 1;
    libc.threads_minus_1 = 1;
    return SGX_SUCCESS;
}

/* All threads, for musl to clear a deleted key in: that of each TCS from its first ECALL on, and
   those that the enclave made and that have not ended. */
static struct pthread *some_thread;
static sgx_spinlock_t threads_lock = SGX_SPINLOCK_INITIALIZER;

void __tl_lock(void)
{
    sgx_spin_lock(&threads_lock);
}

void __tl_unlock(void)
{
    sgx_spin_unlock(&threads_lock);
}

static void enlist(struct pthread *self)
{
    __tl_lock();
    if (some_thread == NULL) some_thread = self->prev = self->next = self;
    self->prev = some_thread;
    self->next = some_thread->next;
    self->prev->next = self->next->prev = self;
    __tl_unlock();
}

void tee_thread_become(struct thread_data *thread, struct pthread *self)
{
    self->self = self;
    self->tid = (int)((thread->self - tee_base) / PAGE); /* unique, as there is one page each */
    self->canceldisable = PTHREAD_CANCEL_DISABLE;
    self->robust_list.head = &self->robust_list.head;
    self->locale = &libc.global_locale;
    self->stack = (void *)thread->stack_base;
    self->stack_size = thread->stack_base - thread->stack_limit;
    *(struct pthread **)((char *)thread + TEE_SELF_OFFSET) = self;
    if (self->next == NULL) enlist(self);
}

void tee_libc_start_thread(struct thread_data *thread)
{
    struct pthread *self = (struct pthread *)((char *)thread + TEE_PTHREAD_OFFSET);
    /* It stays in the list: what links it there stays too, and its tsd is there for all to see. */
    __tl_lock();
    memset(&self->sysinfo, 0, sizeof *self - offsetof(struct pthread, sysinfo));
    self->detach_state = DT_JOINABLE;
    self->tsd = (void **)((char *)thread + TSD_OFFSET);
    memset(self->tsd, 0, PTHREAD_KEYS_MAX * sizeof(void *));
    __tl_unlock();
    tee_thread_become(thread, self);
}

/* Linked only with pthread_key_create. */
void __pthread_tsd_run_dtors(void) __attribute__((__weak__));

void tee_libc_end_thread(void)
{
    if (__pthread_tsd_run_dtors != NULL) __pthread_tsd_run_dtors();
}

void __funcs_on_exit(void);

void tee_libc_exit(void)
{
    extern void (*const __fini_array_start[])(void) __attribute__((visibility("hidden")));
    extern void (*const __fini_array_end[])(void) __attribute__((visibility("hidden")));
    __funcs_on_exit();
    for (void (*const *last)(void) = __fini_array_end; last > __fini_array_start;) (*--last)();
}

static long map(long size, long flags)
{
    if ((flags & MAP_ANONYMOUS) == 0) return -ENOSYS;
    if (size <= 0 || (flags & MAP_FIXED) != 0) return -EINVAL;
    size_t count = ((size_t)size + PAGE - 1) / PAGE;
    sgx_spin_lock(&pages_lock);
    void *taken = pages_take(&pages, count);
    g_peak_heap_used = pages.peak * PAGE;
    sgx_spin_unlock(&pages_lock);
    if (taken == NULL) return -ENOMEM;
    memset(taken, 0, count * PAGE); /* neither an earlier owner's bytes nor the host's */
    return (long)taken;
}

static long unmap(long address, long size)
{
    sgx_spin_lock(&pages_lock);
    int status = pages_give(&pages, (void *)address, ((size_t)size + PAGE - 1) / PAGE);
    sgx_spin_unlock(&pages_lock);
    return status == 0 ? 0 : -EINVAL;
}

static long random_bytes(void *buffer, size_t size)
{
    if (size == 0) return 0;
    return sgx_read_rand(buffer, size) == SGX_SUCCESS ? (long)size : -EIO;
}

static long answer(long number, long a, long b, long c, long d, long e)
{
    switch (number) {
    case SYS_mmap:
        return map(b, d);
    case SYS_munmap:
        return unmap(a, b);
    case SYS_mremap: /* the caller then copies */
        return -ENOMEM;
    case SYS_brk: /* no such area: the caller then maps */
        return 0;
    case SYS_mprotect: /* the heap is readable and writable for good */
        return c & PROT_EXEC ? -EACCES : 0;
    case SYS_futex:
        return tee_futex((volatile int *)a, b, (int)c, (const struct timespec *)d,
                         (volatile int *)e);
    case SYS_sched_yield:
        __asm__ __volatile__("pause");
        return 0;
    case SYS_getrandom:
        return random_bytes((void *)a, (size_t)b);
    case SYS_gettid:
        return __pthread_self()->tid;
    case SYS_getpid:
        return 1;
    case SYS_rt_sigprocmask: /* there are no signals */
    case SYS_get_robust_list: /* a thread that ends goes through its list itself */
    case SYS_set_robust_list:
        return 0;
    case SYS_exit:
    case SYS_exit_group:
    case SYS_kill:
    case SYS_tkill:
    case SYS_tgkill:
        tee_abort();
    }
    return -ENOSYS;
}

long tee_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    long result = answer(number, a, b, c, d, e);
    if (result == -ENOSYS) result = tee_outside(number, a, b, c, d, e, f);
    if (result == -ENOSYS && number >= 0 && number < TEE_SYSCALLS)
        __atomic_fetch_add(&tee_refused_syscalls[number], 1, __ATOMIC_RELAXED);
    return result;
}

_Noreturn void abort(void)
{
    tee_abort();
}

_Noreturn void _Exit(int status)
{
    (void)status;
    tee_abort();
}

/* A function's frame was overwritten. */
_Noreturn void __stack_chk_fail(void)
{
    tee_abort();
}
