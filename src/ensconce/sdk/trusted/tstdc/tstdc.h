/* SPDX-License-Identifier: Apache-2.0 */
/* What the libc's glue offers to a debugger, a test and a curious enclave. */
#ifndef TSTDC_H
#define TSTDC_H

#include <stdint.h>

#define TEE_SYSCALLS 512

/* How often each system call was refused with ENOSYS, by its x86-64 number. */
extern uint32_t tee_refused_syscalls[TEE_SYSCALLS];

#endif
