/* SPDX-License-Identifier: Apache-2.0 */
/* What this processor and kernel can do, and the core's one-time start. */
#include "core.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

enum { HWCAP2_FSGSBASE = 2, SET_CPUID = 0x1012, SHSTK_STATUS = 0x5005, SHSTK_ON = 1 };

_Atomic uint32_t core_generation;
bool core_has_protection_keys;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int started;

void core_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]) {
    __cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
}

/* Make CPUID fault in this thread, or not. -ENODEV where the processor can't. */
int core_set_cpuid_faulting(bool fault) {
    return syscall(SYS_arch_prctl, SET_CPUID, fault ? 0ul : 1ul) == 0 ? 0 : -errno;
}

static bool has_shadow_stack(void) {
    unsigned long features = 0;
    return syscall(SYS_arch_prctl, SHSTK_STATUS, &features) == 0 && features & SHSTK_ON;
}

struct core_capabilities core_capabilities(void) {
    struct core_capabilities found = {0};
    uint32_t out[4];
    static _Atomic int cpuid_faulting = -1;

    found.fsgsbase = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
    /* an unknown mode is refused with EINVAL by every kernel, a bad selector by those that know */
    found.syscall_user_dispatch =
        prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, (void *)-8L) != 0 && errno == EFAULT;
    if (cpuid_faulting < 0) /* once: it would end the faulting of a thread that has it */
        cpuid_faulting = core_set_cpuid_faulting(false) == 0;
    found.cpuid_faulting = cpuid_faulting;
    found.shadow_stack = has_shadow_stack();
    found.xsave = core_xcr0() != 0;
    core_cpuid(0, 0, out);
    if (out[0] >= 7) {
        core_cpuid(7, 0, out);
        found.protection_keys = out[2] >> 4 & 1;
    }
    return found;
}

static void in_child(void) {
    core_generation++;
    core_signals_forked();
    core_memories_forked();
    core_enclaves_forked();
    core_thread_forked();
}

static void watch_forks(void) {
    pthread_atfork(NULL, NULL, in_child);
}

/* Before anything is made that a child must not use. */
void core_watch_forks(void) {
    static pthread_once_t watch = PTHREAD_ONCE_INIT;
    pthread_once(&watch, watch_forks);
}

static void start(void) {
    struct core_capabilities found = core_capabilities();
    if (!found.fsgsbase || !found.xsave || found.shadow_stack) {
        started = -ENOTSUP;
        return;
    }
    core_has_protection_keys = found.protection_keys;
    started = core_state_init();
    if (started == 0)
        started = core_thread_init();
    if (started == 0)
        started = core_signals_init();
    core_watch_forks();
    if (started == 0)
        core_trap_init();
}

int core_init(void) {
    pthread_once(&once, start);
    return started;
}
