/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-1, SHA-256 and SHA-384. */
#include <openssl/sha.h>
#include <stdlib.h>

#include "tcrypto.h"

/* The five functions of one hash; the three hashes differ in names and sizes only. */
#define HASH(bits, context_type, init, update, final, length_type)                                 \
    sgx_status_t sgx_sha##bits##_msg(const uint8_t *p_src, uint32_t src_len,                       \
                                     sgx_sha##bits##_hash_t *p_hash)                               \
    {                                                                                              \
        context_type context;                                                                      \
        if (p_src == NULL || p_hash == NULL) return SGX_ERROR_INVALID_PARAMETER;                   \
        init(&context);                                                                            \
        update(&context, p_src, src_len);                                                          \
        final(*p_hash, &context);                                                                  \
        OPENSSL_cleanse(&context, sizeof context);                                                 \
        return SGX_SUCCESS;                                                                        \
    }                                                                                              \
    sgx_status_t sgx_sha##bits##_init(sgx_sha_state_handle_t *p_sha_handle)                        \
    {                                                                                              \
        if (p_sha_handle == NULL) return SGX_ERROR_INVALID_PARAMETER;                              \
        context_type *context = malloc(sizeof *context);                                           \
        if (context == NULL) return SGX_ERROR_OUT_OF_MEMORY;                                       \
        init(context);                                                                             \
        *p_sha_handle = context;                                                                   \
        return SGX_SUCCESS;                                                                        \
    }                                                                                              \
    sgx_status_t sgx_sha##bits##_update(const uint8_t *p_src, length_type src_len,                 \
                                        sgx_sha_state_handle_t sha_handle)                         \
    {                                                                                              \
        if (p_src == NULL || sha_handle == NULL) return SGX_ERROR_INVALID_PARAMETER;               \
        update((context_type *)sha_handle, p_src, src_len);                                        \
        return SGX_SUCCESS;                                                                        \
    }                                                                                              \
    sgx_status_t sgx_sha##bits##_get_hash(sgx_sha_state_handle_t sha_handle,                       \
                                          sgx_sha##bits##_hash_t *p_hash)                          \
    {                                                                                              \
        if (sha_handle == NULL || p_hash == NULL) return SGX_ERROR_INVALID_PARAMETER;              \
        context_type copy = *(const context_type *)sha_handle;                                     \
        final(*p_hash, &copy);                                                                     \
        OPENSSL_cleanse(&copy, sizeof copy);                                                       \
        return SGX_SUCCESS;                                                                        \
    }                                                                                              \
    sgx_status_t sgx_sha##bits##_close(sgx_sha_state_handle_t sha_handle)                          \
    {                                                                                              \
        if (sha_handle == NULL) return SGX_ERROR_INVALID_PARAMETER;                                \
        OPENSSL_cleanse(sha_handle, sizeof(context_type));                                         \
        free(sha_handle);                                                                          \
        return SGX_SUCCESS;                                                                        \
    }

HASH(1, SHA_CTX, SHA1_Init, SHA1_Update, SHA1_Final, size_t)
HASH(256, SHA256_CTX, SHA256_Init, SHA256_Update, SHA256_Final, uint32_t)
HASH(384, SHA512_CTX, SHA384_Init, SHA384_Update, SHA384_Final, uint32_t)

sgx_status_t sgx_is_fips_approved_func(sgx_fips_func_t func, func_fips_approved_t *is_approved)
{
    (void)func;
    if (is_approved == NULL) return SGX_ERROR_INVALID_PARAMETER;
    *is_approved = 0;
    return SGX_SUCCESS;
}
