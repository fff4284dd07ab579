/* SPDX-License-Identifier: Apache-2.0 */
/* Calling-convention words of the development model. On Linux none of them means anything. */
#ifndef SGX_DEFS_H
#define SGX_DEFS_H

/* Some dialects predefine `linux`, which then breaks header names that hold the word. */
#ifdef linux
#undef linux
#endif

#define SGXAPI
#define SGX_CDECL
#define SGX_STDCALL
#define SGX_FASTCALL
#define SGX_DLLIMPORT
#define SGX_NOCONVENTION
#define SGX_UBRIDGE(attr, fname, args...) attr fname args
#define SGX_DEPRECATED __attribute__((deprecated))

#endif
