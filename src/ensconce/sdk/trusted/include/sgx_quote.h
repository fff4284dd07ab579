/* SPDX-License-Identifier: Apache-2.0 */
/* What is in quotes and what names attestation keys. */
#ifndef SGX_QUOTE_H
#define SGX_QUOTE_H

#include <stdint.h>

#include "sgx_report.h"

typedef uint8_t sgx_epid_group_id_t[4];

typedef struct _spid_t {
    uint8_t id[16];
} sgx_spid_t;

typedef struct _basename_t {
    uint8_t name[32];
} sgx_basename_t;

typedef struct _quote_nonce {
    uint8_t rand[16];
} sgx_quote_nonce_t;

typedef enum { SGX_UNLINKABLE_SIGNATURE, SGX_LINKABLE_SIGNATURE } sgx_quote_sign_type_t;

#define SGX_PLATFORM_INFO_SIZE 101
typedef struct _platform_info {
    uint8_t platform_info[SGX_PLATFORM_INFO_SIZE];
} sgx_platform_info_t;

typedef struct _update_info_bit {
    int ucodeUpdate;
    int csmeFwUpdate;
    int pswUpdate;
} sgx_update_info_bit_t;

#pragma pack(push, 1)
typedef struct _quote_t { /* 436 bytes, and the signature */
    uint16_t version;
    uint16_t sign_type;
    sgx_epid_group_id_t epid_group_id;
    sgx_isv_svn_t qe_svn;
    sgx_isv_svn_t pce_svn;
    uint32_t xeid;
    sgx_basename_t basename;
    sgx_report_body_t report_body;
    uint32_t signature_len;
    uint8_t signature[];
} sgx_quote_t;

typedef struct _sgx_ql_att_key_id_t { /* 158 bytes */
    uint16_t id;
    uint16_t version;
    uint16_t mrsigner_length;
    uint8_t mrsigner[48];
    uint32_t prod_id;
    uint8_t extended_prod_id[16];
    uint8_t config_id[64];
    uint8_t family_id[16];
    uint32_t algorithm_id;
} sgx_ql_att_key_id_t;

typedef struct _sgx_att_key_id_ext_t { /* 256 bytes */
    sgx_ql_att_key_id_t base;
    uint8_t spid[16];
    uint16_t att_key_type;
    uint8_t reserved[80];
} sgx_att_key_id_ext_t;
#pragma pack(pop)

typedef struct _att_key_id_t {
    uint8_t att_key_id[256];
} sgx_att_key_id_t;

typedef struct _qe_report_info_t {
    sgx_quote_nonce_t nonce;
    sgx_target_info_t app_enclave_target_info;
    sgx_report_t qe_report;
} sgx_qe_report_info_t;

#endif
