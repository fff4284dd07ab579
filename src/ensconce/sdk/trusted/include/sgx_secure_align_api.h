/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for secrets, away from the bytes of cache lines that INTEL-SA-00219 exposes: byte 0 and
   bytes 4 to 7 of each 64. Who knows which fields of a structure are secret gets an address where
   none of them touches those bytes. */
#ifndef SGX_SECURE_ALIGN_API_H
#define SGX_SECURE_ALIGN_API_H

#include <stddef.h>
#include <stdint.h>

/* A secret field: `len` bytes at `offset`. */
typedef struct {
    size_t offset;
    size_t len;
} align_req_t;

#ifdef __cplusplus
extern "C" {
#endif

/* `size` bytes at a multiple of `alignment`, a power of two, or as few such steps behind a cache
   line's start as keep the `count` secrets in `data` safe. Without any (NULL and 0) all bytes
   are secret. NULL where no place is safe, for fields that overlap or reach over the end, and
   without memory. A secret of more than 56 bytes has no safe place. */
void *sgx_aligned_malloc(size_t size, size_t alignment, align_req_t *data, size_t count);

/* Free what sgx_aligned_malloc returned; NULL is fine. */
void sgx_aligned_free(void *ptr);

/* The same within `raw_size` bytes of the caller's own: allocate_size + 72 are always enough up to
   an alignment of 8, allocate_size + 64 + alignment beyond. NULL where they were too few. */
void *sgx_get_aligned_ptr(void *raw, size_t raw_size, size_t allocate_size, size_t alignment,
                          align_req_t *data, size_t count);

#ifdef __cplusplus
}
#endif

#endif
