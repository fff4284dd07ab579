/* SPDX-License-Identifier: Apache-2.0 */
/* The OCALLs of tee_libc.edl. Each answers with a result or the negative errno. Enclaves know
 * their files by numbers of ours, so that they reach none of the program's own. */
#include "tee_host.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

enum {
    OPEN_AT_MOST = 256,
    PART = 256,
    PERMISSIONS = 0777,
    NOTHING = -1,
    LARGE_FILE = 0100000, /* what enclaves set; here it is 0 */
    FOLDER = O_PATH | O_DIRECTORY | O_CLOEXEC,
    OPEN = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_SYNC,
    IGNORED = O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK | LARGE_FILE,
    SOCKET = SOCK_CLOEXEC | SOCK_NONBLOCK,
};

/* A file that is being used stays open until its last user is done. */
struct open_file {
    int descriptor;
    bool taken, is_socket, is_own;
    uint32_t users;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct open_file files[OPEN_AT_MOST] = {
    {.descriptor = STDIN_FILENO, .taken = true},
    {.descriptor = STDOUT_FILENO, .taken = true},
    {.descriptor = STDERR_FILENO, .taken = true},
};
static int root = NOTHING;
static bool network;

static long answer(long result) {
    return result < 0 ? -errno : result;
}

PUBLIC int tee_host_allow(const char *folder, int use_network) {
    int opened = folder ? open(folder, FOLDER) : NOTHING;
    if (folder && opened < 0)
        return -1;
    pthread_mutex_lock(&lock);
    int before = root;
    root = opened;
    network = use_network != 0;
    pthread_mutex_unlock(&lock);
    if (before != NOTHING)
        close(before);
    return 0;
}

/* A number for what was opened; it is closed where there is none. */
static long add(int descriptor, bool is_socket) {
    if (descriptor < 0)
        return -errno;
    pthread_mutex_lock(&lock);
    int number = 0;
    while (number < OPEN_AT_MOST && (files[number].taken || files[number].users))
        number++;
    if (number < OPEN_AT_MOST)
        files[number] = (struct open_file){descriptor, true, is_socket, true, 0};
    pthread_mutex_unlock(&lock);
    if (number < OPEN_AT_MOST)
        return number;
    close(descriptor);
    return -EMFILE;
}

/* The file with a number, in use from now on; NULL, with errno, for none and for another kind. */
static struct open_file *use(int number, bool as_socket) {
    struct open_file *found = NULL;
    errno = EBADF;
    if (number < 0 || number >= OPEN_AT_MOST)
        return NULL;
    pthread_mutex_lock(&lock);
    if (files[number].taken && as_socket && !files[number].is_socket)
        errno = ENOTSOCK;
    else if (files[number].taken)
        found = &files[number];
    if (found)
        found->users++;
    pthread_mutex_unlock(&lock);
    return found;
}

/* End a use, or one that also closes; answer with the result of a call. */
static long done(struct open_file *file, long result, bool closes) {
    result = answer(result);
    pthread_mutex_lock(&lock);
    if (closes)
        file->taken = false;
    int ended = --file->users == 0 && !file->taken && file->is_own ? file->descriptor : NOTHING;
    pthread_mutex_unlock(&lock);
    if (ended != NOTHING)
        close(ended);
    return result;
}

PUBLIC long tee_write(int number, const void *data, size_t size) {
    struct open_file *file = use(number, false);
    if (!file)
        return -errno;
    if (!file->is_own)
        fflush(stdout); /* what the program has printed comes first */
    if (file->is_socket)
        return done(file, send(file->descriptor, data, size, MSG_NOSIGNAL), false);
    return done(file, write(file->descriptor, data, size), false);
}

PUBLIC long tee_read(int number, void *data, size_t size) {
    struct open_file *file = use(number, false);
    return file ? done(file, read(file->descriptor, data, size), false) : -errno;
}

PUBLIC long tee_close(int number) {
    struct open_file *file = use(number, false);
    return file ? done(file, 0, true) : -errno;
}

/* Go from a folder to the one in it that has a name; no name stays there. Negative errno. */
static int deeper(int folder, const char *name) {
    int next = name[0] ? openat(folder, name, FOLDER | O_NOFOLLOW) : folder;
    int error = next < 0 ? -errno : 0;

    if (next != folder)
        close(folder);
    return error ? error : next;
}

/* The folder that holds a path's last part, as a descriptor, and that part; negative errno. */
static int place(const char *path, char name[PART]) {
    pthread_mutex_lock(&lock);
    int folder = root == NOTHING ? -EACCES : (int)answer(fcntl(root, F_DUPFD_CLOEXEC, 0));
    pthread_mutex_unlock(&lock);
    name[0] = 0;
    for (size_t length = 0; folder >= 0; path += length) {
        path += strspn(path, "/");
        length = strcspn(path, "/");
        if (length == 0)
            break;
        if (length == 1 && path[0] == '.')
            continue;
        folder = deeper(folder, name);
        int error = length == 2 && memcmp(path, "..", 2) == 0 ? EACCES
                    : length >= PART                          ? ENAMETOOLONG
                                                              : 0;
        if (error && folder >= 0) {
            close(folder);
            folder = -error;
        }
        if (!error) {
            memcpy(name, path, length);
            name[length] = 0;
        }
    }
    if (folder < 0 || name[0])
        return folder;
    close(folder);
    return -EISDIR;
}

PUBLIC long tee_open(const char *path, int flags, uint32_t mode) {
    char name[PART];
    struct stat found;

    flags &= ~IGNORED;
    if (flags & ~OPEN)
        return -EINVAL;
    int folder = place(path, name);
    if (folder < 0)
        return folder;
    /* A pipe must not hold up this thread, nor a terminal become the program's own. */
    int safe = flags | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC;
    int descriptor = openat(folder, name, safe, mode & PERMISSIONS);
    int error = descriptor < 0 || fstat(descriptor, &found) != 0 ? errno
                : S_ISREG(found.st_mode)                         ? 0
                                                                 : EACCES;
    close(folder);
    if (!error)
        return add(descriptor, false);
    if (descriptor >= 0)
        close(descriptor);
    return -error;
}

PUBLIC long tee_lseek(int number, int64_t offset, int whence) {
    struct open_file *file = use(number, false);
    return file ? done(file, lseek(file->descriptor, offset, whence), false) : -errno;
}

PUBLIC long tee_fstat(int number, int64_t facts[4]) {
    struct stat found = {0};
    struct open_file *file = use(number, false);
    if (!file)
        return -errno;
    long result = done(file, fstat(file->descriptor, &found), false);
    facts[0] = found.st_mode;
    facts[1] = found.st_size;
    facts[2] = found.st_mtim.tv_sec;
    facts[3] = found.st_mtim.tv_nsec;
    return result;
}

PUBLIC long tee_unlink(const char *path) {
    char name[PART];
    int folder = place(path, name);
    if (folder < 0)
        return folder;
    long result = answer(unlinkat(folder, name, 0));
    close(folder);
    return result;
}

PUBLIC long tee_rename(const char *before, const char *after) {
    char name[PART], other[PART];
    int old = place(before, name);
    if (old < 0)
        return old;
    int new = place(after, other);
    long result = new < 0 ? new : answer(renameat(old, name, new, other));
    close(old);
    if (new >= 0)
        close(new);
    return result;
}

PUBLIC long tee_clock_gettime(int clock, int64_t at[2]) {
    struct timespec now = {0};
    long result = clock < 0 || clock > CLOCK_BOOTTIME ? -EINVAL : answer(clock_gettime(clock, &now));
    at[0] = now.tv_sec;
    at[1] = now.tv_nsec;
    return result;
}

PUBLIC long tee_nanosleep(int64_t seconds, int64_t nanoseconds) {
    struct timespec time = {.tv_sec = seconds, .tv_nsec = nanoseconds};
    return answer(nanosleep(&time, NULL));
}

PUBLIC long tee_socket(int domain, int type, int protocol) {
    pthread_mutex_lock(&lock);
    bool allowed = network;
    pthread_mutex_unlock(&lock);
    if (!allowed)
        return -EACCES;
    if (domain != AF_INET && domain != AF_INET6)
        return -EAFNOSUPPORT;
    if ((type & ~SOCKET) != SOCK_STREAM && (type & ~SOCKET) != SOCK_DGRAM)
        return -EPROTONOSUPPORT;
    return add(socket(domain, type | SOCK_CLOEXEC, protocol), true);
}

PUBLIC long tee_connect(int number, const void *address, uint32_t size) {
    struct open_file *file = use(number, true);
    return file ? done(file, connect(file->descriptor, address, size), false) : -errno;
}

PUBLIC long tee_bind(int number, const void *address, uint32_t size) {
    struct open_file *file = use(number, true);
    return file ? done(file, bind(file->descriptor, address, size), false) : -errno;
}

PUBLIC long tee_listen(int number, int waiting) {
    struct open_file *file = use(number, true);
    return file ? done(file, listen(file->descriptor, waiting), false) : -errno;
}

PUBLIC long tee_accept(int number, int flags) {
    struct open_file *file = use(number, true);
    if (!file)
        return -errno;
    long peer = done(file, accept4(file->descriptor, NULL, NULL, flags | SOCK_CLOEXEC), false);
    return peer < 0 ? peer : add((int)peer, true);
}

PUBLIC long tee_send(int number, const void *data, size_t size, int flags) {
    struct open_file *file = use(number, true);
    if (!file)
        return -errno;
    return done(file, send(file->descriptor, data, size, flags | MSG_NOSIGNAL), false);
}

PUBLIC long tee_recv(int number, void *data, size_t size, int flags) {
    struct open_file *file = use(number, true);
    return file ? done(file, recv(file->descriptor, data, size, flags), false) : -errno;
}

PUBLIC long tee_shutdown(int number, int how) {
    struct open_file *file = use(number, true);
    return file ? done(file, shutdown(file->descriptor, how), false) : -errno;
}
