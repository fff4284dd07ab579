/* SPDX-License-Identifier: Apache-2.0 */
/* The C library at work, with all of its calls let out. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "calls_t.h"
#include "tee_libc.h"

int say(const char *text)
{
    return printf("[%s]\n", text);
}

int ask(char *line, int size)
{
    return fgets(line, size, stdin) != NULL;
}

int64_t now(void)
{
    return time(NULL);
}

int64_t monotonic(int64_t *nanoseconds)
{
    struct timespec at;
    int status = clock_gettime(CLOCK_MONOTONIC, &at);
    *nanoseconds = at.tv_nsec;
    return status == 0 ? at.tv_sec : -errno;
}

double slept(int64_t microseconds)
{
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    if (usleep((useconds_t)microseconds) != 0) return -1;
    clock_gettime(CLOCK_MONOTONIC, &after);
    return (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
}

int store(const char *path, const char *data, size_t size)
{
    FILE *file = fopen(path, "w");
    if (file == NULL) return errno;
    size_t written = fwrite(data, 1, size, file);
    return fclose(file) == 0 && written == size ? 0 : errno;
}

int fetch(const char *path, char *data, size_t size, int64_t *found)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) return errno;
    fseek(file, 0, SEEK_END);
    *found = ftell(file);
    rewind(file);
    size_t got = fread(data, 1, size, file);
    fclose(file);
    return got == size || got == (size_t)*found ? 0 : EIO;
}

int move(const char *before, const char *after)
{
    return rename(before, after) == 0 ? 0 : errno;
}

int drop(const char *path)
{
    return remove(path) == 0 ? 0 : errno;
}

int stat_of(const char *path, int64_t facts[3])
{
    struct stat found;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return errno;
    int status = fstat(file, &found) == 0 ? 0 : errno;
    facts[0] = found.st_mode;
    facts[1] = found.st_size;
    facts[2] = found.st_mtim.tv_sec;
    close(file);
    return status;
}

int open_with(const char *path, int flags)
{
    int file = open(path, flags, 0600);
    if (file < 0) return errno;
    close(file);
    return 0;
}

static int64_t answer(int64_t result)
{
    return result < 0 ? -errno : result;
}

int64_t raw_read(int file, char *data, size_t size)
{
    return answer(read(file, data, size));
}

int64_t raw_write(int file, size_t size)
{
    static char zeros[100000];
    return answer(write(file, zeros, size));
}

int64_t raw_seek(int file)
{
    return answer(lseek(file, 0, SEEK_CUR));
}

int64_t raw_open(void)
{
    return answer(open("any", O_RDONLY));
}

int64_t raw_close(int file)
{
    return answer(close(file));
}

int64_t raw_clock(int clock, int64_t at[2])
{
    struct timespec time;
    int64_t status = answer(clock_gettime(clock, &time));
    at[0] = time.tv_sec;
    at[1] = time.tv_nsec;
    return status;
}

int64_t raw_stat(int file)
{
    struct stat found;
    return answer(fstat(file, &found));
}

static int receive(int peer, char *line, int size)
{
    int got = 0;
    while (got < size - 1) {
        ssize_t some = recv(peer, line + got, (size_t)(size - 1 - got), 0);
        if (some < 0) return -errno;
        if (some == 0) break;
        got += (int)some;
    }
    line[got] = 0;
    return got;
}

int exchange(uint16_t port, const char *text, char *answer, int size)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (peer < 0) return -errno;
    int status = connect(peer, (struct sockaddr *)&to, sizeof to) == 0 ? 0 : -errno;
    if (status == 0 && send(peer, text, strlen(text), 0) < 0) status = -errno;
    if (status == 0 && shutdown(peer, SHUT_WR) != 0) status = -errno;
    if (status == 0) status = receive(peer, answer, size);
    close(peer);
    return status;
}

/* On a port of the caller's: the host does not tell which one it chose. */
int serve(uint16_t *port, char *answer, int size)
{
    struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int listener = socket(AF_INET6, SOCK_STREAM, 0), status = -1, peer = -1;
    if (listener < 0) return -errno;
    for (*port = 40000; *port < 60000 && status != 0; (*port)++) {
        own.sin6_port = htons(*port);
        status = bind(listener, (struct sockaddr *)&own, sizeof own);
    }
    if (status == 0 && listen(listener, 1) == 0) {
        printf("%d\n", ntohs(own.sin6_port));
        peer = accept(listener, NULL, NULL);
    }
    status = peer < 0 ? -errno : receive(peer, answer, size);
    if (peer >= 0) write(peer, "bye", 3);
    close(peer);
    close(listener);
    return status;
}

int socket_of(int domain, int type)
{
    int made = socket(domain, type, 0);
    if (made < 0) return errno;
    close(made);
    return 0;
}

uint32_t refused(int64_t number)
{
    return tee_refused_syscalls[number];
}
