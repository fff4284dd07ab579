/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed data: AES-128-GCM under a key that only this enclave (or its signer) can derive. */
#ifndef SGX_TSEAL_H
#define SGX_TSEAL_H

#include <stddef.h>
#include <stdint.h>

#include "sgx_attributes.h"
#include "sgx_defs.h"
#include "sgx_error.h"
#include "sgx_key.h"
#include "sgx_tcrypto.h"

#define SGX_SEAL_TAG_SIZE SGX_AESGCM_MAC_SIZE
#define SGX_SEAL_IV_SIZE 12

typedef struct _aes_gcm_data_t {
    uint32_t payload_size; /* encrypted bytes and additional bytes together */
    uint8_t reserved[12];
    uint8_t payload_tag[SGX_SEAL_TAG_SIZE];
    uint8_t payload[]; /* encrypted bytes, then additional bytes */
} sgx_aes_gcm_data_t;

typedef struct _sealed_data_t { /* 560 bytes, then the payload */
    sgx_key_request_t key_request;
    uint32_t plain_text_offset; /* where the additional bytes start in the payload */
    uint8_t reserved[12];
    sgx_aes_gcm_data_t aes_data;
} sgx_sealed_data_t;

#ifdef __cplusplus
extern "C" {
#endif

/* Sizes in bytes; UINT32_MAX when the lengths overflow or the blob contradicts itself. */
uint32_t sgx_calc_sealed_data_size(const uint32_t add_mac_txt_size,
                                   const uint32_t txt_encrypt_size);
uint32_t sgx_get_add_mac_txt_len(const sgx_sealed_data_t *p_sealed_data);
uint32_t sgx_get_encrypt_txt_len(const sgx_sealed_data_t *p_sealed_data);

/* Seal to the signer: any enclave with this MRSIGNER and ISVPRODID, at this ISVSVN or later,
   unseals it. The additional text is authenticated, not encrypted. */
sgx_status_t SGXAPI sgx_seal_data(const uint32_t additional_MACtext_length,
                                  const uint8_t *p_additional_MACtext,
                                  const uint32_t text2encrypt_length,
                                  const uint8_t *p_text2encrypt, const uint32_t sealed_data_size,
                                  sgx_sealed_data_t *p_sealed_data);

/* Seal under a chosen key policy and masks. */
sgx_status_t SGXAPI sgx_seal_data_ex(const uint16_t key_policy,
                                     const sgx_attributes_t attribute_mask,
                                     const sgx_misc_select_t misc_mask,
                                     const uint32_t additional_MACtext_length,
                                     const uint8_t *p_additional_MACtext,
                                     const uint32_t text2encrypt_length,
                                     const uint8_t *p_text2encrypt,
                                     const uint32_t sealed_data_size,
                                     sgx_sealed_data_t *p_sealed_data);

/* Unseal; the two lengths hold the buffers' sizes before and the texts' after. */
sgx_status_t SGXAPI sgx_unseal_data(const sgx_sealed_data_t *p_sealed_data,
                                    uint8_t *p_additional_MACtext,
                                    uint32_t *p_additional_MACtext_length,
                                    uint8_t *p_decrypted_text, uint32_t *p_decrypted_text_length);

/* The same with nothing encrypted: authenticate only. */
sgx_status_t sgx_mac_aadata(const uint32_t additional_MACtext_length,
                            const uint8_t *p_additional_MACtext, const uint32_t sealed_data_size,
                            sgx_sealed_data_t *p_sealed_data);
sgx_status_t sgx_mac_aadata_ex(const uint16_t key_policy, const sgx_attributes_t attribute_mask,
                               const sgx_misc_select_t misc_mask,
                               const uint32_t additional_MACtext_length,
                               const uint8_t *p_additional_MACtext,
                               const uint32_t sealed_data_size, sgx_sealed_data_t *p_sealed_data);
sgx_status_t sgx_unmac_aadata(const sgx_sealed_data_t *p_sealed_data,
                              uint8_t *p_additional_MACtext,
                              uint32_t *p_additional_MACtext_length);

#ifdef __cplusplus
}
#endif

#endif
