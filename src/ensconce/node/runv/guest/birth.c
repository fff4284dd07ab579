// SPDX-License-Identifier: Apache-2.0
// How a process comes to be in its container, and what its end takes with it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "child.h"

#define CGROUPS "/sys/fs/cgroup"
#define JOINED (CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define SHAREABLE (CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)
#define MADE (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)

static struct plan plan;

static bool write_text(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    bool whole = write(file, text, strlen(text)) == (ssize_t)strlen(text);
    close(file);
    return whole;
}

static const char *make_cgroup(void) {
    char path[512];
    snprintf(path, sizeof path, CGROUPS "/%s", plan.container);
    if (mkdir(path, 0755) && errno != EEXIST)
        return "the guest can't make the container's cgroup";
    for (size_t each = 0; each < plan.limit_count; each++) {
        snprintf(path, sizeof path, CGROUPS "/%s/%s", plan.container, plan.limits[each].name);
        if (strchr(plan.limits[each].name, '/') || !write_text(path, plan.limits[each].value))
            return "the guest can't set a limit of the container's";
    }
    return NULL;
}

static const char *enter_cgroup(pid_t pid) {
    char path[512], text[16];
    snprintf(path, sizeof path, CGROUPS "/%s/cgroup.procs", plan.container);
    snprintf(text, sizeof text, "%d", pid);
    return write_text(path, text) ? NULL : "the guest can't put a process into its cgroup";
}

static struct process *first_of(const char *container) {
    for (size_t each = 0; each < MOST_PROCESSES; each++) {
        struct process *process = process_at(each);
        if (process->stream && process->first && !strcmp(process->container, container))
            return process;
    }
    return NULL;
}

static void close_all(int *list, size_t count) {
    for (size_t each = 0; each < count; each++)
        if (list[each] >= 0)
            close(list[each]);
}

// ends: of the child 0, 1, 2, then of the agent 0, 1, 2
static bool make_streams(int ends[6]) {
    for (int each = 0; each < 6; each++)
        ends[each] = -1;
    if (plan.terminal)
        return true;
    for (int each = 0; each < 3; each++) {
        int two[2];
        if (pipe2(two, O_CLOEXEC))
            return false;
        ends[each] = two[each == 0 ? 0 : 1];
        ends[3 + each] = two[each == 0 ? 1 : 0];
        fcntl(ends[3 + each], F_SETFL, O_NONBLOCK);
    }
    return true;
}

static void wait_for_cgroup(int status) {
    char byte;
    if (recv(status, &byte, 1, 0) != 1)
        _exit(127);
}

static pid_t clone_into(unsigned long namespaces) {
    return (pid_t)syscall(SYS_clone, namespaces | SIGCHLD, 0, 0, 0, 0);
}

// A new container: in namespaces of its own, and in those that it shares with its pod's first.
static pid_t be_born(pid_t pod, int status, const int ends[3]) {
    int shared = (int)(plan.shared & SHAREABLE), handle = -1, own = -1;
    if (shared) {
        handle = (int)syscall(SYS_pidfd_open, pod, 0);
        own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
        if (handle < 0 || own < 0 || (shared & CLONE_NEWPID && setns(handle, CLONE_NEWPID))) {
            close_all((int[]){handle, own}, 2);
            return -1;
        }
    }
    pid_t pid = clone_into(plan.namespaces & MADE & ~(uint64_t)shared);
    if (pid == 0) {
        wait_for_cgroup(status);
        if (shared & ~CLONE_NEWPID && setns(handle, shared & ~CLONE_NEWPID))
            give_up(status, "can't enter the", "pod's namespaces");
        if (plan.namespaces & CLONE_NEWCGROUP && unshare(CLONE_NEWCGROUP))
            give_up(status, "can't make a", "cgroup namespace");
        become(&plan, status, ends);
    }
    if (shared & CLONE_NEWPID)
        setns(own, CLONE_NEWPID);
    close_all((int[]){handle, own}, 2);
    return pid;
}

static pid_t join(pid_t elder, int status, const int ends[3]) {
    int handle = (int)syscall(SYS_pidfd_open, elder, 0);
    int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    pid_t pid = -1;
    // the namespace of processes is entered by being born in it
    if (handle >= 0 && own >= 0 && !setns(handle, CLONE_NEWPID)) {
        pid = clone_into(0);
        if (pid == 0) {
            wait_for_cgroup(status);
            if (setns(handle, JOINED))
                give_up(status, "can't enter the", "container");
            become(&plan, status, ends);
        }
        setns(own, CLONE_NEWPID);
    }
    close_all((int[]){handle, own}, 2);
    return pid;
}

static struct process *new_process(uint32_t stream) {
    for (size_t each = 0; each < MOST_PROCESSES; each++) {
        struct process *process = process_at(each);
        if (process->stream)
            continue;
        memset(process, 0, sizeof *process);
        process->stream = stream;
        process->terminal = process->input = process->status = -1;
        process->outputs[0] = process->outputs[1] = -1;
        process->credit = WINDOW;
        return process;
    }
    return NULL;
}

static const char *start_in(struct process *process, const struct process *elder, int status[2],
                            int ends[6]) {
    process->pid = plan.join ? join(elder->pid, status[1], ends)
                             : be_born(elder ? elder->pid : 0, status[1], ends);
    if (process->pid < 0)
        return "the guest can't make a process";
    const char *wrong = enter_cgroup(process->pid);
    if (wrong || send(status[0], "", 1, MSG_NOSIGNAL) != 1) {
        kill(process->pid, SIGKILL);
        return wrong ? wrong : "the guest's new process ended at once";
    }
    return NULL;
}

const char *run_process(uint32_t stream, const uint8_t *payload, size_t size) {
    const char *wrong = read_plan(&plan, payload, size);
    if (wrong)
        return wrong;
    if (!stream || find_process(stream))
        return "the process's stream is in use";
    const struct process *elder = first_of(plan.container);
    if (plan.join && (!elder || !elder->created))
        return "the container is not running";
    if (!plan.join && elder)
        return "the container is there already";
    if (!plan.join && plan.shared && (!(elder = first_of(plan.pod)) || !elder->created))
        return "the container whose namespaces are shared is not running";
    if (!plan.join && (wrong = make_cgroup()))
        return wrong;
    int status[2], ends[6];
    struct process *process = new_process(stream);
    if (!process)
        return "the guest has too many processes of the host's";
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status)) {
        process->stream = 0;
        return "the guest is out of descriptors";
    }
    if (make_streams(ends))
        wrong = start_in(process, elder, status, ends);
    else
        wrong = "the guest is out of descriptors";
    close(status[1]);
    close_all(ends, 3);
    if (wrong) {
        close(status[0]);
        close_all(ends + 3, 3);
        process->stream = 0;
        return wrong;
    }
    fcntl(status[0], F_SETFL, O_NONBLOCK);
    process->status = status[0];
    process->input = ends[3];
    process->outputs[0] = ends[4];
    process->outputs[1] = ends[5];
    process->first = !plan.join;
    snprintf(process->container, sizeof process->container, "%s", plan.container);
    return NULL;
}

static const char *signal_all(const char *container, int number) {
    char path[512];
    if (number == SIGKILL) {
        snprintf(path, sizeof path, CGROUPS "/%s/cgroup.kill", container);
        return write_text(path, "1") ? NULL : "the container is not running";
    }
    snprintf(path, sizeof path, CGROUPS "/%s/cgroup.procs", container);
    FILE *list = fopen(path, "re");
    if (!list)
        return "the container is not running";
    int pid;
    while (fscanf(list, "%d", &pid) == 1)
        kill(pid, number);
    fclose(list);
    return NULL;
}

const char *signal_process(struct process *process, int number, bool all) {
    if (all)
        return signal_all(process->container, number);
    if (process->exited)
        return "the process has ended";
    return kill(process->pid, number) ? "the guest can't send the signal" : NULL;
}

void forget_container(const char *container) {
    char path[512];
    signal_all(container, SIGKILL);
    snprintf(path, sizeof path, CGROUPS "/%s", container);
    for (int turn = 0; turn < 50 && rmdir(path) && errno == EBUSY; turn++)
        nanosleep(&(struct timespec){0, 2000000}, NULL);
}
