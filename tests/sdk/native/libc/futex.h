/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers of the enclave's libc, for its files that are tried outside an enclave. */
enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_REQUEUE = 3 };
enum { FUTEX_PRIVATE = 128, FUTEX_CLOCK_REALTIME = 256 };
