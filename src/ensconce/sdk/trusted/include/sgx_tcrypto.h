/* SPDX-License-Identifier: Apache-2.0 */
/* Cryptography inside the enclave: AES-128-GCM and AES-128-CMAC. */
#ifndef SGX_TCRYPTO_H
#define SGX_TCRYPTO_H

#include <stdint.h>

#include "sgx_defs.h"
#include "sgx_error.h"

#define SGX_AESGCM_IV_SIZE 12
#define SGX_AESGCM_KEY_SIZE 16
#define SGX_AESGCM_MAC_SIZE 16
#define SGX_CMAC_KEY_SIZE 16
#define SGX_CMAC_MAC_SIZE 16

typedef uint8_t sgx_aes_gcm_128bit_key_t[SGX_AESGCM_KEY_SIZE];
typedef uint8_t sgx_aes_gcm_128bit_tag_t[SGX_AESGCM_MAC_SIZE];
typedef uint8_t sgx_cmac_128bit_key_t[SGX_CMAC_KEY_SIZE];
typedef uint8_t sgx_cmac_128bit_tag_t[SGX_CMAC_MAC_SIZE];

#ifdef __cplusplus
extern "C" {
#endif

/* Encrypt src_len bytes to p_dst, authenticate them and p_aad. The nonce is 12 bytes. */
sgx_status_t SGXAPI sgx_rijndael128GCM_encrypt(const sgx_aes_gcm_128bit_key_t *p_key,
                                               const uint8_t *p_src, uint32_t src_len,
                                               uint8_t *p_dst, const uint8_t *p_iv,
                                               uint32_t iv_len, const uint8_t *p_aad,
                                               uint32_t aad_len,
                                               sgx_aes_gcm_128bit_tag_t *p_out_mac);

/* The reverse; SGX_ERROR_MAC_MISMATCH, and zeros in p_dst, when anything was changed. */
sgx_status_t SGXAPI sgx_rijndael128GCM_decrypt(const sgx_aes_gcm_128bit_key_t *p_key,
                                               const uint8_t *p_src, uint32_t src_len,
                                               uint8_t *p_dst, const uint8_t *p_iv,
                                               uint32_t iv_len, const uint8_t *p_aad,
                                               uint32_t aad_len,
                                               const sgx_aes_gcm_128bit_tag_t *p_in_mac);

/* AES-128-CMAC of src_len bytes (NIST SP 800-38B). */
sgx_status_t SGXAPI sgx_rijndael128_cmac_msg(const sgx_cmac_128bit_key_t *p_key,
                                             const uint8_t *p_src, uint32_t src_len,
                                             sgx_cmac_128bit_tag_t *p_mac);

#ifdef __cplusplus
}
#endif

#endif
