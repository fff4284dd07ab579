/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that an enclave lets out: those whose OCALL of tee_libc.edl it imports. The edge
   routines are referred to weakly, so what is not imported is NULL here and not in the enclave.
   They copy what goes in and out; here the host's answers are checked. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "kstat.h"
#include "sgx_error.h"
#include "sgx_spinlock.h"
#include "tstdc.h"

#define LARGEST_ERRNO 4095
#define LARGEST_TRANSFER 65536 /* it lies on the host's stack on its way; more needs more calls */
#define LARGEST_ADDRESS 128
#define BLOCK 4096
#define NANOSECONDS 1000000000

#define OCALL(name, ...)                                  \
    __attribute__((__weak__, __visibility__("hidden"))) \
    sgx_status_t name(long *result, __VA_ARGS__)

OCALL(tee_write, int file, const void *data, size_t size);
OCALL(tee_read, int file, void *data, size_t size);
OCALL(tee_close, int file);
OCALL(tee_open, const char *path, int flags, uint32_t mode);
OCALL(tee_lseek, int file, int64_t offset, int whence);
OCALL(tee_fstat, int file, int64_t facts[4]);
OCALL(tee_unlink, const char *path);
OCALL(tee_rename, const char *from, const char *to);
OCALL(tee_clock_gettime, int clock, int64_t at[2]);
OCALL(tee_nanosleep, int64_t seconds, int64_t nanoseconds);
OCALL(tee_socket, int domain, int type, int protocol);
OCALL(tee_connect, int file, const void *address, uint32_t size);
OCALL(tee_bind, int file, const void *address, uint32_t size);
OCALL(tee_listen, int file, int waiting);
OCALL(tee_accept, int file, int flags);
OCALL(tee_send, int file, const void *data, size_t size, int flags);
OCALL(tee_recv, int file, void *data, size_t size, int flags);
OCALL(tee_shutdown, int file, int how);

/* What a call came to: the host's word, if it can be true. */
static long checked(sgx_status_t status, const long *result, long most)
{
    if (status == SGX_ERROR_INVALID_PARAMETER) return -EFAULT;
    if (status == SGX_ERROR_OUT_OF_MEMORY) return -ENOMEM;
    if (status != SGX_SUCCESS || *result > most || *result < -LARGEST_ERRNO) return -EIO;
    return *result;
}

#define ASK(most, name, ...) \
    (name == NULL ? -ENOSYS : checked(name(&result, __VA_ARGS__), &result, most))

static size_t part(size_t size)
{
    return size < LARGEST_TRANSFER ? size : LARGEST_TRANSFER;
}

static long write_some(int file, const void *data, size_t size)
{
    long result;
    size = part(size);
    long written = ASK((long)size, tee_write, file, data, size);
    return written == 0 && size != 0 ? -EIO : written; /* stdio would try for good */
}

/* The edge routine copies as much as was asked for: clear what the host has not vouched for. */
static long received(sgx_status_t status, const long *result, void *data, size_t size)
{
    long got = checked(status, result, (long)size);
    size_t whole = got > 0 ? (size_t)got : 0;
    if (status == SGX_SUCCESS && whole < size) memset((char *)data + whole, 0, size - whole);
    return got;
}

static long read_some(int file, void *data, size_t size)
{
    long result;
    size = part(size);
    if (tee_read == NULL) return -ENOSYS;
    return received(tee_read(&result, file, data, size), &result, data, size);
}

static long receive_some(int file, void *data, size_t size, int flags)
{
    long result;
    size = part(size);
    if (tee_recv == NULL) return -ENOSYS;
    return received(tee_recv(&result, file, data, size, flags), &result, data, size);
}

static long write_all(int file, const struct iovec *next, int count)
{
    long written = 0;
    if (tee_write == NULL) return -ENOSYS;
    for (; count > 0; next++, count--)
        for (size_t done = 0; done < next->iov_len;) {
            long some = write_some(file, (char *)next->iov_base + done, next->iov_len - done);
            if (some <= 0) return written > 0 ? written : some;
            done += (size_t)some;
            written += some;
        }
    return written;
}

/* The first part that takes something: to wait for more might be to wait for good. */
static long read_first(int file, const struct iovec *next, int count)
{
    if (tee_read == NULL) return -ENOSYS;
    for (; count > 0; next++, count--)
        if (next->iov_len > 0) return read_some(file, next->iov_base, next->iov_len);
    return 0;
}

static int is_path(const char *path)
{
    return path != NULL && strnlen(path, PATH_MAX) < PATH_MAX;
}

static long open_path(const char *path, int flags, uint32_t mode)
{
    long result;
    if (tee_open != NULL && !is_path(path)) return -ENAMETOOLONG;
    return ASK(INT_MAX, tee_open, path, flags, mode);
}

static long unlink_path(const char *path)
{
    long result;
    if (tee_unlink != NULL && !is_path(path)) return -ENAMETOOLONG;
    return ASK(0, tee_unlink, path);
}

static long rename_path(const char *from, const char *to)
{
    long result;
    if (tee_rename != NULL && !(is_path(from) && is_path(to))) return -ENAMETOOLONG;
    return ASK(0, tee_rename, from, to);
}

static int is_nanoseconds(int64_t value)
{
    return value >= 0 && value < NANOSECONDS;
}

static long file_facts(int file, struct kstat *facts)
{
    enum { MODE, SIZE, MODIFIED, MODIFIED_NANOSECONDS, FACTS };
    int64_t told[FACTS];
    long result;
    long status = ASK(0, tee_fstat, file, told);
    if (status != 0) return status;
    if (told[MODE] < 0 || told[MODE] > UINT_MAX || told[SIZE] < 0 ||
        !is_nanoseconds(told[MODIFIED_NANOSECONDS]))
        return -EIO;
    *facts = (struct kstat){
        .st_nlink = 1,
        .st_mode = (mode_t)told[MODE],
        .st_size = told[SIZE],
        .st_blksize = BLOCK,
        .st_mtime_sec = told[MODIFIED],
        .st_mtime_nsec = told[MODIFIED_NANOSECONDS],
    };
    return 0;
}

static long file_call(long number, long a, long b, long c)
{
    long result;
    switch (number) {
    case SYS_write:
        return write_some((int)a, (const void *)b, (size_t)c);
    case SYS_writev:
        return write_all((int)a, (const struct iovec *)b, (int)c);
    case SYS_read:
        return read_some((int)a, (void *)b, (size_t)c);
    case SYS_readv:
        return read_first((int)a, (const struct iovec *)b, (int)c);
    case SYS_close:
        return ASK(0, tee_close, (int)a);
    case SYS_lseek:
        return ASK(LONG_MAX, tee_lseek, (int)a, b, (int)c);
    case SYS_fstat:
        return file_facts((int)a, (struct kstat *)b);
    case SYS_open:
        return open_path((const char *)a, (int)b, (uint32_t)c);
    case SYS_unlink:
        return unlink_path((const char *)a);
    case SYS_rename:
        return rename_path((const char *)a, (const char *)b);
    }
    return -ENOSYS;
}

/* The host may set its clock back, and lie; a monotonic clock of ours stands still then. */
static long tell_time(int clock, struct timespec *time)
{
    static sgx_spinlock_t lock = SGX_SPINLOCK_INITIALIZER;
    static struct timespec latest;
    int64_t at[2];
    long result;
    long status = ASK(0, tee_clock_gettime, clock, at);
    if (status != 0) return status;
    if (!is_nanoseconds(at[1])) return -EIO;
    *time = (struct timespec){.tv_sec = at[0], .tv_nsec = at[1]};
    if (clock != CLOCK_MONOTONIC) return 0;
    sgx_spin_lock(&lock);
    if (at[0] > latest.tv_sec || (at[0] == latest.tv_sec && at[1] > latest.tv_nsec)) latest = *time;
    *time = latest;
    sgx_spin_unlock(&lock);
    return 0;
}

static long sleep_for(const struct timespec *time, struct timespec *rest)
{
    long result;
    if (time->tv_sec < 0 || !is_nanoseconds(time->tv_nsec)) return -EINVAL;
    long status = ASK(0, tee_nanosleep, time->tv_sec, time->tv_nsec);
    if (status == -EINTR && rest != NULL) *rest = *time; /* nobody tells how much it was */
    return status;
}

/* The peer's address would be the host's invention: it is left empty. */
static long accept_next(int file, socklen_t *size, int flags)
{
    long result;
    if (tee_accept != NULL && size != NULL) *size = 0;
    return ASK(INT_MAX, tee_accept, file, flags);
}

static long socket_call(long number, long a, long b, long c, long d, long e)
{
    long result;
    switch (number) {
    case SYS_socket:
        return ASK(INT_MAX, tee_socket, (int)a, (int)b, (int)c);
    case SYS_connect:
        if ((size_t)c > LARGEST_ADDRESS) return -EINVAL;
        return ASK(0, tee_connect, (int)a, (const void *)b, (uint32_t)c);
    case SYS_bind:
        if ((size_t)c > LARGEST_ADDRESS) return -EINVAL;
        return ASK(0, tee_bind, (int)a, (const void *)b, (uint32_t)c);
    case SYS_listen:
        return ASK(0, tee_listen, (int)a, (int)b);
    case SYS_accept:
        return accept_next((int)a, (socklen_t *)c, 0);
    case SYS_accept4:
        return accept_next((int)a, (socklen_t *)c, (int)d);
    case SYS_sendto: /* without an address, as send does */
        if (e != 0) return -ENOSYS;
        return ASK((long)part((size_t)c), tee_send, (int)a, (const void *)b, part((size_t)c),
                   (int)d);
    case SYS_recvfrom:
        if (e != 0) return -ENOSYS;
        return receive_some((int)a, (void *)b, (size_t)c, (int)d);
    case SYS_shutdown:
        return ASK(0, tee_shutdown, (int)a, (int)b);
    }
    return -ENOSYS;
}

/* Standard output counts as a terminal, so that a line is out when it is whole. */
static long terminal_size(int file, struct winsize *size)
{
    if (tee_write == NULL && tee_open == NULL) return -ENOSYS;
    if (tee_write == NULL || file < 0 || file > 2) return -ENOTTY;
    *size = (struct winsize){0};
    return 0;
}

long tee_outside(long number, long a, long b, long c, long d, long e, long f)
{
    (void)f;
    switch (number) {
    case SYS_clock_gettime:
        return tell_time((int)a, (struct timespec *)b);
    case SYS_nanosleep:
        return sleep_for((const struct timespec *)a, (struct timespec *)b);
    case SYS_ioctl:
        return b == TIOCGWINSZ ? terminal_size((int)a, (struct winsize *)c) : -ENOSYS;
    case SYS_fcntl: /* there is no exec that a file could stay open over */
        if (tee_open == NULL && tee_socket == NULL) return -ENOSYS;
        return b == F_SETFD ? 0 : b == F_GETFD ? FD_CLOEXEC : -ENOSYS;
    }
    long result = file_call(number, a, b, c);
    return result != -ENOSYS ? result : socket_call(number, a, b, c, d, e);
}
