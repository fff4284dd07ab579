/* SPDX-License-Identifier: Apache-2.0 */
/* What the libc's glue offers to itself. */
#ifndef TSTDC_H
#define TSTDC_H

#include "tee_libc.h"

/* calls.c: a system call for the host to answer; -ENOSYS where the enclave does not allow it. */
long tee_outside(long number, long a, long b, long c, long d, long e, long f);

#endif
