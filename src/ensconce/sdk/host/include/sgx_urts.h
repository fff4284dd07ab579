/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side: create, call and destroy enclaves. Link with -lsgx_urts. */
#ifndef SGX_URTS_H
#define SGX_URTS_H

#include <stddef.h>
#include <stdint.h>

#include "sgx_attributes.h"
#include "sgx_defs.h"
#include "sgx_eid.h"
#include "sgx_error.h"
#include "sgx_key.h"
#include "sgx_report.h"

typedef uint8_t sgx_launch_token_t[1024];

/* What `debug` is by custom: debugging is for builds with assertions. */
#if !defined(NDEBUG) || defined(EDEBUG)
#define SGX_DEBUG_FLAG 1
#else
#define SGX_DEBUG_FLAG 0
#endif

#define MAX_EX_FEATURES_COUNT 32
#define SGX_CREATE_ENCLAVE_EX_PCL_BIT_IDX 0U
#define SGX_CREATE_ENCLAVE_EX_PCL (1U << SGX_CREATE_ENCLAVE_EX_PCL_BIT_IDX)
#define SGX_CREATE_ENCLAVE_EX_SWITCHLESS_BIT_IDX 1U
#define SGX_CREATE_ENCLAVE_EX_SWITCHLESS (1U << SGX_CREATE_ENCLAVE_EX_SWITCHLESS_BIT_IDX)
#define SGX_CREATE_ENCLAVE_EX_KSS_BIT_IDX 2U
#define SGX_CREATE_ENCLAVE_EX_KSS (1U << SGX_CREATE_ENCLAVE_EX_KSS_BIT_IDX)

/* For SGX_CREATE_ENCLAVE_EX_KSS. */
#pragma pack(push, 1)
typedef struct _sgx_kss_config_t {
    sgx_config_id_t config_id;
    sgx_config_svn_t config_svn;
} sgx_kss_config_t;
#pragma pack(pop)

#ifdef __cplusplus
extern "C" {
#endif

/* Load a signed enclave. `launch_token` and `launch_token_updated` are of no use any more and may
   be NULL; `misc_attr`, too. */
sgx_status_t SGXAPI sgx_create_enclave(const char *file_name, const int debug,
                                       sgx_launch_token_t *launch_token, int *launch_token_updated,
                                       sgx_enclave_id_t *enclave_id,
                                       sgx_misc_attribute_t *misc_attr);

/* The same with features beyond: a bit in `ex_features` each, and what it needs at its index. */
sgx_status_t SGXAPI sgx_create_enclave_ex(const char *file_name, const int debug,
                                          sgx_launch_token_t *launch_token,
                                          int *launch_token_updated, sgx_enclave_id_t *enclave_id,
                                          sgx_misc_attribute_t *misc_attr,
                                          const uint32_t ex_features,
                                          const void *ex_features_p[32]);

sgx_status_t SGXAPI sgx_create_enclave_from_buffer_ex(uint8_t *buffer, uint64_t buffer_size,
                                                      const int debug, sgx_enclave_id_t *enclave_id,
                                                      sgx_misc_attribute_t *misc_attr,
                                                      const uint32_t ex_features,
                                                      const void *ex_features_p[32]);

/* Refused with SGX_ERROR_FEATURE_NOT_SUPPORTED: enclaves with encrypted code. */
sgx_status_t SGXAPI sgx_create_encrypted_enclave(const char *file_name, const int debug,
                                                 sgx_launch_token_t *launch_token,
                                                 int *launch_token_updated,
                                                 sgx_enclave_id_t *enclave_id,
                                                 sgx_misc_attribute_t *misc_attr,
                                                 uint8_t *sealed_key);

/* Waits for ECALLs that run; OCALLs that return later find the enclave lost. */
sgx_status_t SGXAPI sgx_destroy_enclave(const sgx_enclave_id_t enclave_id);

/* What another enclave needs to make a REPORT for this one. */
sgx_status_t SGXAPI sgx_get_target_info(const sgx_enclave_id_t enclave_id,
                                        sgx_target_info_t *target_info);

#ifdef __cplusplus
}
#endif

#endif
