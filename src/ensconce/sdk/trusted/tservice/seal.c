/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing. Each blob has a key of its own (a random KEYID), so the nonce can be zero. */
#include <string.h>

#include "mbusafecrt.h"
#include "sgx_lfence.h"
#include "sgx_trts.h"
#include "sgx_tseal.h"
#include "sgx_utils.h"
#include "tservice.h"

/* A buffer of the caller's, with its length in bytes. */
struct text {
    const uint8_t *bytes;
    uint32_t size;
};

/* What a seal key depends on. */
struct policy {
    uint16_t key_policy;
    sgx_attributes_t attribute_mask;
    sgx_misc_select_t misc_mask;
};

static const uint8_t zero_iv[SGX_SEAL_IV_SIZE];

uint32_t sgx_calc_sealed_data_size(const uint32_t add_mac_txt_size, const uint32_t txt_encrypt_size)
{
    uint64_t size = (uint64_t)add_mac_txt_size + txt_encrypt_size + sizeof(sgx_sealed_data_t);
    return size >= UINT32_MAX ? UINT32_MAX : (uint32_t)size;
}

uint32_t sgx_get_add_mac_txt_len(const sgx_sealed_data_t *p_sealed_data)
{
    if (p_sealed_data == NULL ||
        p_sealed_data->plain_text_offset > p_sealed_data->aes_data.payload_size)
        return UINT32_MAX;
    return p_sealed_data->aes_data.payload_size - p_sealed_data->plain_text_offset;
}

uint32_t sgx_get_encrypt_txt_len(const sgx_sealed_data_t *p_sealed_data)
{
    return p_sealed_data == NULL ? UINT32_MAX : p_sealed_data->plain_text_offset;
}

static int is_anywhere(const void *buffer, size_t size)
{
    return sgx_is_within_enclave(buffer, size) || sgx_is_outside_enclave(buffer, size);
}

static struct policy default_policy(void)
{
    int separated = (sgx_self_report()->body.attributes.flags & SGX_FLAGS_KSS) != 0;
    return (struct policy){
        .key_policy = SGX_KEYPOLICY_MRSIGNER | (separated ? POLICY_KSS : 0),
        .attribute_mask = {.flags = SEAL_FLAGS_MASK, .xfrm = 0},
        .misc_mask = SEAL_MISC_MASK,
    };
}

static int is_valid_policy(const struct policy *policy)
{
    uint64_t always = SGX_FLAGS_INITTED | SGX_FLAGS_DEBUG;
    return (policy->key_policy & ~POLICY_ALL) == 0 && (policy->key_policy & POLICY_IDENTITY) != 0 &&
           (policy->attribute_mask.flags & always) == always;
}

static sgx_status_t new_key_request(const struct policy *policy, sgx_key_request_t *request)
{
    const sgx_report_body_t *own = &sgx_self_report()->body;
    *request = (sgx_key_request_t){
        .key_name = SGX_KEYSELECT_SEAL,
        .key_policy = policy->key_policy,
        .isv_svn = own->isv_svn,
        .cpu_svn = own->cpu_svn,
        .attribute_mask = policy->attribute_mask,
        .misc_mask = policy->misc_mask,
        .config_svn = own->config_svn,
    };
    return sgx_read_rand(request->key_id.id, sizeof request->key_id.id);
}

/* Fill a blob; its room and the texts have been checked. */
static sgx_status_t seal(const struct policy *policy, struct text additional, struct text secret,
                         sgx_sealed_data_t *blob)
{
    sgx_key_128bit_t key;
    sgx_key_request_t request;
    sgx_status_t status = new_key_request(policy, &request);
    if (status != SGX_SUCCESS) return status;
    status = sgx_get_key(&request, &key);
    if (status != SGX_SUCCESS) return SGX_ERROR_UNEXPECTED;
    memset(blob, 0, sizeof *blob);
    uint8_t *payload = blob->aes_data.payload;
    /* The copy is what is authenticated: the original may be the host's, and change. */
    if (additional.size != 0) memcpy(payload + secret.size, additional.bytes, additional.size);
    status = sgx_rijndael128GCM_encrypt(&key, secret.bytes, secret.size, payload, zero_iv,
                                        sizeof zero_iv, payload + secret.size, additional.size,
                                        &blob->aes_data.payload_tag);
    memset_s(&key, sizeof key, 0, sizeof key);
    if (status != SGX_SUCCESS) return status;
    blob->key_request = request;
    blob->plain_text_offset = secret.size;
    blob->aes_data.payload_size = secret.size + additional.size;
    return SGX_SUCCESS;
}

static sgx_status_t check_and_seal(const struct policy *policy, struct text additional,
                                   struct text secret, uint32_t size, sgx_sealed_data_t *blob)
{
    uint32_t expected = sgx_calc_sealed_data_size(additional.size, secret.size);
    if (expected == UINT32_MAX || expected != size || !is_valid_policy(policy))
        return SGX_ERROR_INVALID_PARAMETER;
    if (blob == NULL || !sgx_is_within_enclave(blob, size)) return SGX_ERROR_INVALID_PARAMETER;
    if (additional.size != 0 &&
        (additional.bytes == NULL || !is_anywhere(additional.bytes, additional.size)))
        return SGX_ERROR_INVALID_PARAMETER;
    return seal(policy, additional, secret, blob);
}

sgx_status_t sgx_seal_data_ex(const uint16_t key_policy, const sgx_attributes_t attribute_mask,
                              const sgx_misc_select_t misc_mask,
                              const uint32_t additional_MACtext_length,
                              const uint8_t *p_additional_MACtext,
                              const uint32_t text2encrypt_length, const uint8_t *p_text2encrypt,
                              const uint32_t sealed_data_size, sgx_sealed_data_t *p_sealed_data)
{
    if (text2encrypt_length == 0 || p_text2encrypt == NULL ||
        !sgx_is_within_enclave(p_text2encrypt, text2encrypt_length))
        return SGX_ERROR_INVALID_PARAMETER;
    return check_and_seal(&(struct policy){key_policy, attribute_mask, misc_mask},
                          (struct text){p_additional_MACtext, additional_MACtext_length},
                          (struct text){p_text2encrypt, text2encrypt_length}, sealed_data_size,
                          p_sealed_data);
}

sgx_status_t sgx_seal_data(const uint32_t additional_MACtext_length,
                           const uint8_t *p_additional_MACtext, const uint32_t text2encrypt_length,
                           const uint8_t *p_text2encrypt, const uint32_t sealed_data_size,
                           sgx_sealed_data_t *p_sealed_data)
{
    struct policy policy = default_policy();
    return sgx_seal_data_ex(policy.key_policy, policy.attribute_mask, policy.misc_mask,
                            additional_MACtext_length, p_additional_MACtext, text2encrypt_length,
                            p_text2encrypt, sealed_data_size, p_sealed_data);
}

sgx_status_t sgx_mac_aadata_ex(const uint16_t key_policy, const sgx_attributes_t attribute_mask,
                               const sgx_misc_select_t misc_mask,
                               const uint32_t additional_MACtext_length,
                               const uint8_t *p_additional_MACtext,
                               const uint32_t sealed_data_size, sgx_sealed_data_t *p_sealed_data)
{
    if (additional_MACtext_length == 0) return SGX_ERROR_INVALID_PARAMETER;
    return check_and_seal(&(struct policy){key_policy, attribute_mask, misc_mask},
                          (struct text){p_additional_MACtext, additional_MACtext_length},
                          (struct text){NULL, 0}, sealed_data_size, p_sealed_data);
}

sgx_status_t sgx_mac_aadata(const uint32_t additional_MACtext_length,
                            const uint8_t *p_additional_MACtext, const uint32_t sealed_data_size,
                            sgx_sealed_data_t *p_sealed_data)
{
    struct policy policy = default_policy();
    return sgx_mac_aadata_ex(policy.key_policy, policy.attribute_mask, policy.misc_mask,
                             additional_MACtext_length, p_additional_MACtext, sealed_data_size,
                             p_sealed_data);
}

/* Where unsealing puts one of the two texts. */
struct room {
    uint8_t *bytes;
    uint32_t *size;
    uint32_t need;
    int may_be_outside;
};

static int has_room(const struct room *room)
{
    if (room->need == 0) return 1;
    if (room->bytes == NULL || room->size == NULL) return 0;
    int (*is_allowed)(const void *, size_t) =
        room->may_be_outside ? is_anywhere : sgx_is_within_enclave;
    if (!is_allowed(room->size, sizeof *room->size)) return 0;
    uint32_t size = *room->size;
    return size >= room->need && is_allowed(room->bytes, size);
}

static sgx_status_t open_blob(const sgx_sealed_data_t *blob, const struct room *additional,
                              const struct room *secret)
{
    sgx_key_128bit_t key;
    sgx_status_t status = sgx_get_key(&blob->key_request, &key);
    /* Only what the caller can act on; any other reason means a damaged blob. */
    if (status == SGX_ERROR_INVALID_CPUSVN || status == SGX_ERROR_INVALID_ISVSVN) return status;
    if (status != SGX_SUCCESS) return SGX_ERROR_MAC_MISMATCH;
    sgx_lfence();
    const uint8_t *payload = blob->aes_data.payload;
    status = sgx_rijndael128GCM_decrypt(&key, payload, secret->need, secret->bytes, zero_iv,
                                        sizeof zero_iv, payload + secret->need, additional->need,
                                        &blob->aes_data.payload_tag);
    memset_s(&key, sizeof key, 0, sizeof key);
    if (status != SGX_SUCCESS) return status;
    if (additional->need != 0)
        memcpy(additional->bytes, payload + secret->need, additional->need);
    if (additional->size != NULL) *additional->size = additional->need;
    if (secret->size != NULL) *secret->size = secret->need;
    return SGX_SUCCESS;
}

/* Read a blob's lengths once, checked against each other and the enclave's bounds. */
static sgx_status_t measure(const sgx_sealed_data_t *blob, uint32_t *additional, uint32_t *secret)
{
    if (blob == NULL || !sgx_is_within_enclave(blob, sizeof *blob))
        return SGX_ERROR_INVALID_PARAMETER;
    *secret = sgx_get_encrypt_txt_len(blob);
    *additional = sgx_get_add_mac_txt_len(blob);
    if (*secret == UINT32_MAX || *additional == UINT32_MAX) return SGX_ERROR_MAC_MISMATCH;
    uint32_t size = sgx_calc_sealed_data_size(*additional, *secret);
    if (size == UINT32_MAX) return SGX_ERROR_MAC_MISMATCH;
    return sgx_is_within_enclave(blob, size) ? SGX_SUCCESS : SGX_ERROR_INVALID_PARAMETER;
}

sgx_status_t sgx_unseal_data(const sgx_sealed_data_t *p_sealed_data, uint8_t *p_additional_MACtext,
                             uint32_t *p_additional_MACtext_length, uint8_t *p_decrypted_text,
                             uint32_t *p_decrypted_text_length)
{
    struct room additional = {p_additional_MACtext, p_additional_MACtext_length, 0, 1};
    struct room secret = {p_decrypted_text, p_decrypted_text_length, 0, 0};
    sgx_status_t status = measure(p_sealed_data, &additional.need, &secret.need);
    if (status != SGX_SUCCESS) return status;
    if (secret.need == 0 || !has_room(&secret) || !has_room(&additional))
        return SGX_ERROR_INVALID_PARAMETER;
    return open_blob(p_sealed_data, &additional, &secret);
}

sgx_status_t sgx_unmac_aadata(const sgx_sealed_data_t *p_sealed_data,
                              uint8_t *p_additional_MACtext, uint32_t *p_additional_MACtext_length)
{
    struct room additional = {p_additional_MACtext, p_additional_MACtext_length, 0, 1};
    struct room secret = {NULL, NULL, 0, 0};
    sgx_status_t status = measure(p_sealed_data, &additional.need, &secret.need);
    if (status != SGX_SUCCESS) return status;
    if (secret.need != 0 || additional.need == 0) return SGX_ERROR_MAC_MISMATCH;
    if (!has_room(&additional)) return SGX_ERROR_INVALID_PARAMETER;
    return open_blob(p_sealed_data, &additional, &secret);
}
