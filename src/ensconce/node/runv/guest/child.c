// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

_Noreturn void give_up(int status, const char *what, const char *which) {
    char text[1024];
    const char *why = errno ? strerror(errno) : "";
    int length = snprintf(text, sizeof text, "%s %s%s%s", what, which, errno ? ": " : "", why);
    size_t size = length < (int)sizeof text ? (size_t)length : sizeof text - 1;
    (void)!send(status, text, size, MSG_NOSIGNAL);
    _exit(127);
}

static void say_ready(int status, int terminal) {
    char space[CMSG_SPACE(sizeof(int))] = {0};
    char byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (terminal >= 0) {
        message.msg_control = space;
        message.msg_controllen = sizeof space;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &terminal, sizeof(int));
    }
    if (sendmsg(status, &message, MSG_NOSIGNAL) != 1)
        _exit(127);
}

static int open_terminal(const struct plan *plan, int status) {
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    int unlocked = 0;
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlocked))
        give_up(status, "can't open a terminal at", "/dev/ptmx");
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        give_up(status, "can't open a terminal at", "/dev/pts");
    struct winsize size = {.ws_row = (unsigned short)plan->rows,
                           .ws_col = (unsigned short)plan->columns};
    ioctl(slave, TIOCSWINSZ, &size);
    if (fchown(slave, plan->uid, (gid_t)-1) && errno != EROFS && errno != EPERM)
        give_up(status, "can't give the terminal to its", "user");
    if (!plan->join && !access("/dev", W_OK)) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", slave);
        make_mountpoint("/dev/console", false, status);
        if (mount(path, "/dev/console", NULL, MS_BIND, NULL))
            give_up(status, "can't mount the terminal at", "/dev/console");
    }
    if (ioctl(slave, TIOCSCTTY, 0))
        give_up(status, "can't take the", "terminal");
    for (int each = 0; each < 3; each++)
        if (dup2(slave, each) < 0)
            give_up(status, "can't use the", "terminal");
    close(slave);
    return master;
}

static void write_sysctls(const struct plan *plan, int status) {
    for (size_t each = 0; each < plan->sysctl_count; each++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "/proc/sys/%s", plan->sysctls[each].name);
        size_t length = strlen(plan->sysctls[each].value);
        int file = open(path, O_WRONLY | O_CLOEXEC);
        if (file < 0 || write(file, plan->sysctls[each].value, length) != (ssize_t)length)
            give_up(status, "can't set the sysctl", plan->sysctls[each].name);
        close(file);
    }
}

static void name_host(const struct plan *plan, int status) {
    if (plan->hostname && sethostname(plan->hostname, strlen(plan->hostname)))
        give_up(status, "can't set the host name", plan->hostname);
    if (plan->domainname && setdomainname(plan->domainname, strlen(plan->domainname)))
        give_up(status, "can't set the domain name", plan->domainname);
}

// As runc: HOME is the user's in the container's /etc/passwd where the image does not say.
static void find_home(struct plan *plan) {
    static char home[PATH_MAX];
    for (size_t each = 0; each < plan->environment_count; each++)
        if (!strncmp(plan->environment[each], "HOME=", 5))
            return;
    snprintf(home, sizeof home, "HOME=/");
    FILE *users = fopen("/etc/passwd", "re");
    char line[1024];
    while (users && fgets(line, sizeof line, users)) {
        char *fields[7] = {line}, *at = line;
        int count = 1;
        for (; *at && count < 7; at++)
            if (*at == ':') {
                *at = 0;
                fields[count++] = at + 1;
            }
        if (count < 6 || strtoul(fields[2], NULL, 10) != plan->uid)
            continue;
        snprintf(home, sizeof home, "HOME=%.1000s", fields[5]);
        break;
    }
    if (users)
        fclose(users);
    plan->environment[plan->environment_count++] = home;
}

static void clear_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    for (int each = 1; each < NSIG; each++)
        signal(each, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn void become(struct plan *plan, int status, const int streams[3]) {
    clear_signals();
    errno = 0;
    for (int each = 0; each < 3; each++)
        if (streams[each] >= 0 && dup2(streams[each], each) < 0)
            give_up(status, "can't set the", "streams");
    setsid();
    if (!plan->join) {
        name_host(plan, status);
        enter_root(plan, status);
        make_devices(plan, status);
        write_sysctls(plan, status);
    }
    int terminal = plan->terminal ? open_terminal(plan, status) : -1;
    if (!plan->join)
        seal_paths(plan, status);
    find_home(plan);
    plan->environment[plan->environment_count] = NULL;
    plan->arguments[plan->argument_count] = NULL;
    say_ready(status, terminal);
    if (terminal >= 0)
        close(terminal);
    char byte;
    if (recv(status, &byte, 1, 0) != 1)
        _exit(127);
    set_rights(plan, status);
    clearenv();
    for (size_t each = 0; each < plan->environment_count; each++)
        putenv(plan->environment[each]);
    execvp(plan->arguments[0], plan->arguments);
    give_up(status, "can't run", plan->arguments[0]);
}
