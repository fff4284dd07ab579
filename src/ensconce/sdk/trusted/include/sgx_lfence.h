/* SPDX-License-Identifier: Apache-2.0 */
/* The load fence that stands between a bounds check and the access it guards. */
#ifndef SGX_LFENCE_H
#define SGX_LFENCE_H

#define sgx_lfence() __asm__ __volatile__("lfence" ::: "memory")

#endif
