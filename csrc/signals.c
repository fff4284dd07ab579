/* SPDX-License-Identifier: Apache-2.0 */
/* The host's signal handlers, kept off the enclave's FS and GS.
 *
 * Every handler of the process is reached through core_signal_entry. What the host installed is
 * in a table here; sigaction() and signal() of the host's libraries are led to this file. */
#include "core.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIGNALS 64
#define RESTORER 0x04000000u

struct kernel_action {
    void (*handler)(int, siginfo_t *, void *);
    uint64_t flags;
    void (*restorer)(void);
    uint64_t mask;
};

/* A writer blocks signals and makes `version` odd, so a handler never sees half an action. */
static struct {
    _Atomic uint32_t version;
    struct kernel_action action;
} host[SIGNALS + 1];

static atomic_flag writing = ATOMIC_FLAG_INIT;
static _Atomic pid_t owner;
static int kick;

static int raw_action(int signal, const struct kernel_action *action, struct kernel_action *old) {
    return (int)syscall(SYS_rt_sigaction, signal, action, old, sizeof(uint64_t));
}

static uint64_t raw_mask(int how, uint64_t mask) {
    uint64_t old = 0;
    syscall(SYS_rt_sigprocmask, how, &mask, &old, sizeof mask);
    return old;
}

static bool is_fault(int signal) {
    return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE ||
           signal == SIGTRAP || signal == SIGSYS;
}

/* Signals whose handler stays the core's whatever the host asks for. */
static bool is_kept(int signal) {
    return is_fault(signal) || signal == kick;
}

static bool is_default(const struct kernel_action *action) {
    return action->handler == (void (*)(int, siginfo_t *, void *))(uintptr_t)SIG_DFL;
}

static bool is_ignored(const struct kernel_action *action) {
    return action->handler == (void (*)(int, siginfo_t *, void *))(uintptr_t)SIG_IGN;
}

static bool is_ours(const struct kernel_action *action) {
    return action->handler == core_signal_entry;
}

static uint64_t lock(void) {
    uint64_t mask = raw_mask(SIG_SETMASK, ~(uint64_t)0);
    while (atomic_flag_test_and_set_explicit(&writing, memory_order_acquire))
        ;
    return mask;
}

static void unlock(uint64_t mask) {
    atomic_flag_clear_explicit(&writing, memory_order_release);
    raw_mask(SIG_SETMASK, mask);
}

static void store(int signal, const struct kernel_action *action) {
    atomic_fetch_add(&host[signal].version, 1);
    host[signal].action = *action;
    atomic_fetch_add(&host[signal].version, 1);
}

static struct kernel_action load(int signal) {
    struct kernel_action action;
    uint32_t before;
    do {
        before = atomic_load(&host[signal].version);
        action = host[signal].action;
        atomic_thread_fence(memory_order_acquire);
    } while (before & 1 || before != atomic_load(&host[signal].version));
    return action;
}

/* Install the core's handler in place of `action`. */
static int wrap(int signal, const struct kernel_action *action) {
    struct kernel_action ours = {.handler = core_signal_entry, .restorer = core_restorer};
    if (is_kept(signal)) {
        ours.flags = SA_SIGINFO | SA_ONSTACK | RESTORER;
        if (is_fault(signal))
            ours.flags |= SA_NODEFER;
        else
            ours.flags |= SA_RESTART;
    } else {
        ours.flags = (action->flags & ~(uint64_t)SA_RESETHAND) | SA_SIGINFO | SA_ONSTACK | RESTORER;
        ours.mask = action->mask;
    }
    return raw_action(signal, &ours, NULL);
}

/* Find handlers that got past the interposed functions, and put the core's before them. */
void core_signals_refresh(void) {
    uint64_t mask = lock();
    for (int signal = 1; signal <= SIGNALS; signal++) {
        struct kernel_action action;
        if (raw_action(signal, NULL, &action) != 0 || is_ours(&action))
            continue;
        if (!is_kept(signal) && (is_default(&action) || is_ignored(&action)))
            continue;
        store(signal, &action);
        wrap(signal, &action);
    }
    unlock(mask);
}

static void *nothing(void *argument) {
    return argument;
}

/* A real-time signal that nobody uses. */
static int unused_signal(void) {
    for (int signal = SIGRTMAX; signal >= SIGRTMIN; signal--) {
        struct kernel_action action;
        if (raw_action(signal, NULL, &action) == 0 && is_default(&action))
            return signal;
    }
    return 0;
}

int core_signals_init(void) {
    pthread_t thread;
    int error;

    /* The C library installs its own handler for setuid() with the first thread. */
    error = pthread_create(&thread, NULL, nothing, NULL);
    if (error)
        return -error;
    pthread_join(thread, NULL);
    owner = getpid();
    kick = unused_signal();
    if (!kick)
        return -EBUSY;
    core_interpose();
    core_signals_refresh();
    return 0;
}

int core_kick_signal(void) {
    return kick;
}

void core_signals_forked(void) {
    atomic_flag_clear(&writing);
    for (int signal = 1; signal <= SIGNALS; signal++)
        if (host[signal].version & 1)
            host[signal].version++;
    owner = getpid();
}

/* The default action of a signal that the core's handler stands in for. */
static void act_by_default(int signal, const siginfo_t *info) {
    struct kernel_action action = {.handler = (void *)SIG_DFL, .restorer = core_restorer};
    action.flags = RESTORER;
    raw_action(signal, &action, NULL);
    if (info->si_code > 0 && signal != SIGTRAP && signal != SIGSYS)
        return; /* the faulting instruction runs again, and the kernel acts */
    syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), signal);
}

static void reset(int signal) {
    const struct kernel_action action = {.handler = (void *)SIG_DFL};
    uint64_t mask = lock();
    store(signal, &action);
    if (!is_kept(signal))
        raw_action(signal, &action, NULL);
    unlock(mask);
}

static void call_host(int signal, siginfo_t *info, void *context,
                      const struct kernel_action *action) {
    if (action->flags & SA_RESETHAND)
        reset(signal);
    if (is_kept(signal)) { /* else the kernel has done it; it undoes either on return */
        uint64_t mask = action->mask;
        if (!(action->flags & SA_NODEFER))
            mask |= (uint64_t)1 << (signal - 1);
        raw_mask(SIG_BLOCK, mask);
    }
    core_thread_note_signal();
    action->handler(signal, info, context);
}

/* A signal for the host, on the host's FS and GS. */
void core_host_signal(int signal, siginfo_t *info, void *context) {
    int saved = errno;
    if (core_host_fault(signal, info, context)) {
        errno = saved;
        return;
    }
    if (signal == SIGTRAP && info->si_code > 0 && core_call_trapped(context)) {
        errno = saved;
        return;
    }
    struct kernel_action action = load(signal);
    if (is_default(&action)) {
        if (signal != kick)
            act_by_default(signal, info);
    } else if (is_ignored(&action)) {
        if (is_fault(signal) && info->si_code > 0)
            act_by_default(signal, info); /* the kernel does not let faults be ignored either */
    } else {
        call_host(signal, info, context, &action);
        core_call_at_aep(context);
    }
    errno = saved;
}

static void to_host(const struct kernel_action *from, struct sigaction *to) {
    memset(to, 0, sizeof *to);
    to->sa_sigaction = from->handler;
    to->sa_flags = (int)(from->flags & ~(uint64_t)RESTORER);
    memcpy(&to->sa_mask, &from->mask, sizeof from->mask);
}

/* sigaction() for everybody in the process. A child of vfork() shares the table with its parent,
 * but not the kernel's actions: there it must not write. */
int core_sigaction(int signal, const struct sigaction *action, struct sigaction *old) {
    struct kernel_action asked = {0}, now;

    if (signal < 1 || signal > SIGNALS || (signal >= 32 && signal < SIGRTMIN) ||
        (action && (signal == SIGKILL || signal == SIGSTOP))) {
        errno = EINVAL;
        return -1;
    }
    if (action) {
        asked.handler = action->sa_sigaction;
        asked.flags = (uint32_t)action->sa_flags | RESTORER;
        asked.restorer = core_restorer;
        memcpy(&asked.mask, &action->sa_mask, sizeof asked.mask);
    }
    uint64_t mask = lock();
    raw_action(signal, NULL, &now);
    bool shared = getpid() != owner;
    if (old) {
        struct kernel_action seen = is_ours(&now) ? load(signal) : now;
        to_host(&seen, old);
    }
    if (action) {
        if (shared || (!is_kept(signal) && (is_default(&asked) || is_ignored(&asked)))) {
            raw_action(signal, &asked, NULL);
        } else {
            store(signal, &asked);
            wrap(signal, &asked);
        }
    }
    unlock(mask);
    return 0;
}

static sighandler_t set_handler(int signal, sighandler_t handler, int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
    if (handler == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    if (flags & SA_RESTART)
        sigaddset(&action.sa_mask, signal);
    return core_sigaction(signal, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

sighandler_t core_signal(int signal, sighandler_t handler) {
    return set_handler(signal, handler, SA_RESTART);
}

sighandler_t core_sysv_signal(int signal, sighandler_t handler) {
    return set_handler(signal, handler, (int)SA_RESETHAND | SA_NODEFER);
}
