/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the libc's threads need of each other. */
#ifndef TEE_THREAD_H
#define TEE_THREAD_H

#include <stdint.h>
#include <time.h>

#include "trts.h"

struct __pthread;

/* libc.c: make `self`, zero but for its tsd, the thread that runs on this TCS. */
void tee_thread_become(struct thread_data *thread, struct __pthread *self);

/* futex.c: the system call; `timeout` is a count, and `other` the second word, of a requeue. */
long tee_futex(volatile int *word, long operation, int value, const struct timespec *timeout,
               volatile int *other);
/* Take one waiter as a wake-up does, and leave its event to the caller; its TCS, or 0. */
uint64_t tee_futex_take(volatile int *word);

#endif
