/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this library share. */
#ifndef TCRYPTO_H
#define TCRYPTO_H

#include <limits.h>
#include <openssl/bn.h>
#include <openssl/mem.h>
#include <stdint.h>

#include "sgx_tcrypto.h"

/* Bytes without a buffer, or more bytes than the vendor's functions take. */
static inline int is_bad(const void *bytes, size_t size)
{
    return size >= INT_MAX || (size > 0 && bytes == NULL);
}

/* A number as little-endian bytes; secret ones leave no copy behind in freed memory. */
static inline BIGNUM *number(const void *bytes, size_t size)
{
    return BN_le2bn(bytes, size, NULL);
}

static inline int store_number(void *bytes, size_t size, const BIGNUM *value)
{
    return BN_bn2le_padded(bytes, size, value);
}

#endif
