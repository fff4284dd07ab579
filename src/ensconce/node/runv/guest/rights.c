// SPDX-License-Identifier: Apache-2.0
// A process's user, capabilities, limits and system call filter.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"

enum { BOUNDING, EFFECTIVE, INHERITABLE, PERMITTED, AMBIENT };

static void set_limits(const struct plan *plan, int status) {
    for (size_t each = 0; each < plan->rlimit_count; each++) {
        const struct rlimit_plan *limit = &plan->rlimits[each];
        struct rlimit value = {limit->soft, limit->hard};
        if (setrlimit((int)limit->resource, &value))
            give_up(status, "can't set a resource limit", "rlimits");
    }
    if (plan->has_oom_score) {
        int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        char text[16];
        int length = snprintf(text, sizeof text, "%d", plan->oom_score);
        if (file < 0 || write(file, text, (size_t)length) != length)
            give_up(status, "can't set", "oomScoreAdj");
        close(file);
    }
}

static void drop_bounding(uint64_t kept, int status) {
    for (int each = 0; each < 64; each++) {
        if (kept >> each & 1 || prctl(PR_CAPBSET_READ, each, 0, 0, 0) != 1)
            continue;
        if (prctl(PR_CAPBSET_DROP, each, 0, 0, 0))
            give_up(status, "can't drop a capability", "bounding");
    }
}

static void set_capabilities(const uint64_t sets[5], int status) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    for (int half = 0; half < 2; half++) {
        data[half].effective = (uint32_t)(sets[EFFECTIVE] >> (32 * half));
        data[half].permitted = (uint32_t)(sets[PERMITTED] >> (32 * half));
        data[half].inheritable = (uint32_t)(sets[INHERITABLE] >> (32 * half));
    }
    if (syscall(SYS_capset, &header, data))
        give_up(status, "can't set the", "capabilities");
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int each = 0; each < 64; each++)
        if (sets[AMBIENT] >> each & 1)
            // of a capability that is not also inheritable and permitted: as runc, leave it out
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, each, 0, 0);
}

void set_filter(const struct plan *plan, int status) {
    static struct sock_filter code[MOST_FILTER / sizeof(struct sock_filter)];
    if (!plan->filter_size)
        return;
    memcpy(code, plan->filter, plan->filter_size);
    struct sock_fprog program = {(unsigned short)(plan->filter_size / sizeof *code), code};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, plan->filter_flags, &program))
        give_up(status, "can't set the", "seccomp filter");
}

void set_rights(const struct plan *plan, int status) {
    set_limits(plan, status);
    if (plan->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        give_up(status, "can't set", "noNewPrivileges");
    if (!plan->no_new_privileges)
        set_filter(plan, status);  // afterwards there may be no right to
    if (plan->has_capabilities)
        drop_bounding(plan->capabilities[BOUNDING], status);
    if (setgroups(plan->group_count, plan->groups))
        give_up(status, "can't set the", "additional groups");
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setresgid(plan->gid, plan->gid, plan->gid) ||
        setresuid(plan->uid, plan->uid, plan->uid))
        give_up(status, "can't become the", "user");
    prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    if (plan->has_capabilities)
        set_capabilities(plan->capabilities, status);
    if (plan->has_umask)
        umask((mode_t)plan->umask);
    if (chdir(plan->folder))
        give_up(status, "can't change into the folder", plan->folder);
    if (plan->no_new_privileges)
        set_filter(plan, status);
}
