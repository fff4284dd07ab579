/* SPDX-License-Identifier: Apache-2.0 */
/* libtee_libc: the host's side of tee_libc.edl, for programs whose enclaves import from it. A
   program's own function of an OCALL's name takes the library's place. */
#ifndef TEE_HOST_H
#define TEE_HOST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Let the enclaves of this process use the files below a folder, which is their root (NULL: none),
   and the network (0: not). Until then they have output, input, time and sleep. Links are not
   followed, and nothing but ordinary files is opened. 0, or -1 with errno. */
int tee_host_allow(const char *folder, int network);

long tee_write(int file, const void *data, size_t size);
long tee_read(int file, void *data, size_t size);
long tee_close(int file);
long tee_open(const char *path, int flags, uint32_t mode);
long tee_lseek(int file, int64_t offset, int whence);
long tee_fstat(int file, int64_t facts[4]);
long tee_unlink(const char *path);
long tee_rename(const char *before, const char *after);
long tee_clock_gettime(int clock, int64_t at[2]);
long tee_nanosleep(int64_t seconds, int64_t nanoseconds);
long tee_socket(int domain, int type, int protocol);
long tee_connect(int file, const void *address, uint32_t size);
long tee_bind(int file, const void *address, uint32_t size);
long tee_listen(int file, int waiting);
long tee_accept(int file, int flags);
long tee_send(int file, const void *data, size_t size, int flags);
long tee_recv(int file, void *data, size_t size, int flags);
long tee_shutdown(int file, int how);

#ifdef __cplusplus
}
#endif

#endif
