/* SPDX-License-Identifier: Apache-2.0 */
/* Find the platform service, start it where it is not there, and talk to it. */
#include "service.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { ATTEMPTS = 3, MOST_WAIT = 60 /* seconds */ };

static bool socket_path(char *path, size_t size) {
    const char *chosen = secure_getenv("ENSCONCE_SERVICE");
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    const char *state = secure_getenv("XDG_STATE_HOME"), *home = secure_getenv("HOME");
    struct passwd entry, *found = NULL;
    char text[1024];
    int length;

    if (!home && getpwuid_r(getuid(), &entry, text, sizeof text, &found) == 0 && found)
        home = found->pw_dir; /* as a daemon has it, which often has no HOME */

    if (chosen && *chosen)
        length = snprintf(path, size, "%s", chosen);
    else if (runtime && *runtime)
        length = snprintf(path, size, "%s/ensconce/service.sock", runtime);
    else if (state && *state)
        length = snprintf(path, size, "%s/ensconce/service.sock", state);
    else
        length = snprintf(path, size, "%s/.local/state/ensconce/service.sock", home ? home : "");
    return length > 0 && (size_t)length < size;
}

/* A service of somebody else's could answer as it likes: only one's own or root's will do, or one
 * whose socket nobody here can have put where it is: a container in a user namespace of its own
 * sees no user of the node, and finds the socket on a mount that it can't write. */
static bool is_trusted(int fd, const char *path) {
    struct ucred peer;
    struct statvfs place;
    socklen_t length = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        return false;
    return peer.uid == geteuid() || peer.uid == 0 ||
           (statvfs(path, &place) == 0 && place.f_flag & ST_RDONLY);
}

static int dial(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!socket_path(address.sun_path, sizeof address.sun_path))
        return -ENAMETOOLONG;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = 0;
    while (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        if (errno == EINTR)
            continue;
        error = errno;
        break;
    }
    if (!error && !is_trusted(fd, address.sun_path))
        error = EPERM;
    if (error)
        close(fd);
    return error ? -error : fd;
}

/* Run a command and wait for it: the service goes to the background once it listens. */
static bool run(char *const *command) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    pid_t child;
    int status = 0;

    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&files, 0, 1);
    posix_spawn_file_actions_adddup2(&files, 0, 2);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int error = posix_spawnp(&child, command[0], &files, &attributes, command, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    if (error)
        return false;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return errno == ECHILD; /* the host has its children reaped for it */
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Not for a program with more rights than its user: PATH is the user's. */
static bool start_service(void) {
    static char python[] = ENSCONCE_PYTHON, by_name[] = "ensconce";
    static char option[] = "-c", code[] = "from ensconce.cli import main; main()", group[] = "platform", verb[] = "serve";
    static char background[] = "--background";
    char *chosen = secure_getenv("ENSCONCE_COMMAND");
    char *own[] = {python, option, code, group, verb, background, NULL};
    char *installed[] = {chosen && *chosen ? chosen : by_name, group, verb, background, NULL};

    if (getauxval(AT_SECURE))
        return false;
    if (chosen && *chosen)
        return run(installed);
    return (python[0] && access(python, X_OK) == 0 && run(own)) || run(installed);
}

static int send_with_file(int fd, const void *data, size_t size, int file) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (file >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &file, sizeof file);
    }
    ssize_t sent;
    do
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)size ? 0 : -EPIPE;
}

/* How often to try again where the service is the node's: it is not a program's to start, and comes
 * back by itself. */
static int patience(void) {
    const char *seconds = secure_getenv("ENSCONCE_SERVICE_WAIT");
    long wait = seconds ? strtol(seconds, NULL, 10) : 0;
    return wait <= 0 ? 0 : wait > MOST_WAIT ? MOST_WAIT * 10 : (int)wait * 10;
}

int service_connect(const struct service_hello *hello, int file, bool start) {
    int fd = -ENOENT, waits = patience();
    for (int attempt = 0; attempt < (waits ? waits : ATTEMPTS); attempt++) {
        fd = dial();
        if (fd >= 0 && send_with_file(fd, hello, sizeof *hello, file) == 0)
            return fd;
        if (fd >= 0) {
            close(fd);
            fd = -ECONNREFUSED;
        }
        if (!start || (fd != -ENOENT && fd != -ECONNREFUSED && fd != -ECONNRESET))
            break;
        if (waits || !start_service()) {
            const struct timespec pause = {.tv_nsec = 100000000};
            nanosleep(&pause, NULL); /* perhaps somebody else was faster */
        }
    }
    return fd;
}

int service_receive(int socket, struct service_command *command, int *file) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = command, .iov_len = sizeof *command};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t got;

    *file = -1;
    do
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    const size_t head = offsetof(struct service_command, content);
    if (got > 0) {
        const struct cmsghdr *found = CMSG_FIRSTHDR(&message);
        if (found && found->cmsg_level == SOL_SOCKET && found->cmsg_type == SCM_RIGHTS)
            memcpy(file, CMSG_DATA(found), sizeof *file);
    }
    if (got < (ssize_t)head || (size_t)got - head != command->length) {
        if (*file >= 0)
            close(*file);
        *file = -1;
        return -EPIPE;
    }
    return 0;
}

int service_answer(int socket, const struct service_answer *answer) {
    return send_with_file(socket, answer, sizeof *answer, -1);
}

int service_ask(int socket, struct service_request *request) {
    uint32_t asked = request->request;
    ssize_t got;

    request->verdict = 0;
    if (send_with_file(socket, request, sizeof *request, -1) != 0)
        return -EPIPE;
    do
        got = recv(socket, request, sizeof *request, 0);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof *request && request->request == asked ? 0 : -EPIPE;
}
