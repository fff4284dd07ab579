/* SPDX-License-Identifier: Apache-2.0 */
/* REPORT of type 2: REPORTMACSTRUCT and TDREPORT_STRUCT, as TDX makes them (Intel TDX module ABI). */
#ifndef SGX_REPORT2_H
#define SGX_REPORT2_H

#include <stdint.h>

#define TEE_HASH_384_SIZE 48
#define TEE_MAC_SIZE 32
#define TEE_CPU_SVN_SIZE 16
#define SGX_REPORT2_DATA_SIZE 64

#define SGX_LEGACY_REPORT_TYPE 0x0
#define TEE_REPORT2_TYPE 0x81
#define TEE_REPORT2_SUBTYPE 0x0
#define TEE_REPORT2_VERSION 0x0
#define TEE_REPORT2_VERSION_SERVICETD 0x1

#define SGX_REPORT2_MAC_STRUCT_RESERVED1_BYTES 12
#define SGX_REPORT2_MAC_STRUCT_RESERVED2_BYTES 32
#define TEE_TCB_INFO_SIZE 239
#define SGX_REPORT2_RESERVED_BYTES 17
#define TEE_INFO_SIZE 512

#pragma pack(push, 1)

typedef uint8_t tee_mac_t[TEE_MAC_SIZE];

typedef struct _tee_cpu_svn_t {
    uint8_t svn[TEE_CPU_SVN_SIZE];
} tee_cpu_svn_t;

typedef struct _tee_measurement_t {
    uint8_t m[TEE_HASH_384_SIZE];
} tee_measurement_t;

typedef struct _tee_report_data_t {
    uint8_t d[SGX_REPORT2_DATA_SIZE];
} tee_report_data_t;

typedef struct _tee_attributes_t {
    uint32_t a[2];
} tee_attributes_t;

typedef struct _tee_report_type_t {
    uint8_t type;
    uint8_t subtype;
    uint8_t version;
    uint8_t reserved;
} tee_report_type_t;

typedef struct _sgx_report2_mac_struct_t { /* 256 bytes */
    tee_report_type_t report_type;
    uint8_t reserved1[SGX_REPORT2_MAC_STRUCT_RESERVED1_BYTES];
    tee_cpu_svn_t cpu_svn;
    tee_measurement_t tee_tcb_info_hash;
    tee_measurement_t tee_info_hash;
    tee_report_data_t report_data;
    uint8_t reserved2[SGX_REPORT2_MAC_STRUCT_RESERVED2_BYTES];
    tee_mac_t mac; /* HMAC-SHA256 of the above, under a key of this processor */
} sgx_report2_mac_struct_t;

typedef struct _sgx_report2_t { /* 1024 bytes */
    sgx_report2_mac_struct_t report_mac_struct;
    uint8_t tee_tcb_info[TEE_TCB_INFO_SIZE];
    uint8_t reserved[SGX_REPORT2_RESERVED_BYTES];
    uint8_t tee_info[TEE_INFO_SIZE];
} sgx_report2_t;

#pragma pack(pop)

#endif
