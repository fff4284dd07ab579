/* SPDX-License-Identifier: Apache-2.0 */
/* What the C library's system calls came to. An enclave has none: a few are answered inside, those
   whose OCALL of tee_libc.edl the enclave imports go to the host, the rest fail with ENOSYS. */
#ifndef TEE_LIBC_H
#define TEE_LIBC_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TEE_SYSCALLS 512

/* How often each system call failed with ENOSYS, by its number on x86-64 (<sys/syscall.h>): what a
   program that behaves oddly in an enclave has missed. */
extern uint32_t tee_refused_syscalls[TEE_SYSCALLS];

#ifdef __cplusplus
}
#endif

#endif
