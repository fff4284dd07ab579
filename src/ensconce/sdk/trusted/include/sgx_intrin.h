/* SPDX-License-Identifier: Apache-2.0 */
/* The compiler's intrinsics, with a warning for those that fault in an enclave (SDM vol. 3D, 37.6.1)
   or answer what the host likes. clang takes no such attribute for what it has defined already. */
#ifndef SGX_INTRIN_H
#define SGX_INTRIN_H

#include <x86intrin.h>

#ifndef __clang__

#define _SGX_DEPRECATED(type, name, ...)                                                       \
    __attribute__((deprecated(#name " is not for enclaves"))) type name(__VA_ARGS__)

_SGX_DEPRECATED(void, _writefsbase_u32, unsigned int);
_SGX_DEPRECATED(void, _writefsbase_u64, unsigned long long);
_SGX_DEPRECATED(void, _writegsbase_u32, unsigned int);
_SGX_DEPRECATED(void, _writegsbase_u64, unsigned long long);
_SGX_DEPRECATED(unsigned long long, __rdpmc, int);
_SGX_DEPRECATED(unsigned long long, __rdtsc, void);
_SGX_DEPRECATED(unsigned long long, __rdtscp, unsigned int *);

#endif

#endif
