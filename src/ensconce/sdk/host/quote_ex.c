/* SPDX-License-Identifier: Apache-2.0 */
/* libsgx_quote_ex: quotes by the platform service, with the vendor's status codes. */
#include "sgx_uae_quote_ex.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "quoting.h"

#define ANSWER __attribute__((visibility("default")))

enum { MOST_KEYS = 10 }; /* that a verifier may list */

struct key_list {
    uint16_t id, version;
    uint32_t count;
    sgx_att_key_id_ext_t keys[];
} __attribute__((packed));

static sgx_status_t status_of(int error) {
    switch (error) {
    case QUOTE_DONE:
        return SGX_SUCCESS;
    case QUOTE_BAD_REPORT:
        return SGX_ERROR_MAC_MISMATCH;
    case -ENOMEM:
        return SGX_ERROR_OUT_OF_MEMORY;
    case -ETIMEDOUT:
        return SGX_ERROR_SERVICE_TIMEOUT;
    default:
        return SGX_ERROR_SERVICE_UNAVAILABLE;
    }
}

static bool has_key(const struct quoter *quoter, const void *key) {
    return memcmp(key, &quoter->key, QUOTE_KEY_BASE) == 0 ||
           memcmp(key, &quoter->other_name, QUOTE_KEY_BASE) == 0;
}

/* Connect to the quoting role, if it has a key. Returns a status and, with SGX_SUCCESS, a socket. */
static sgx_status_t open_for(const sgx_att_key_id_t *key, struct quoter *quoter, int *socket) {
    *socket = quoting_open(quoter);
    if (*socket < 0)
        return status_of(*socket);
    if (has_key(quoter, key))
        return SGX_SUCCESS;
    quoting_close(*socket);
    return SGX_ERROR_UNSUPPORTED_ATT_KEY_ID;
}

/* Learn who the quoting role is, and no more. */
static sgx_status_t look(struct quoter *quoter) {
    int socket = quoting_open(quoter);
    if (socket >= 0)
        quoting_close(socket);
    return socket < 0 ? status_of(socket) : SGX_SUCCESS;
}

ANSWER sgx_status_t sgx_select_att_key_id(const uint8_t *p_att_key_id_list,
                                          uint32_t att_key_id_list_size,
                                          sgx_att_key_id_t *p_att_key_id) {
    const struct key_list *list = (const struct key_list *)p_att_key_id_list;
    struct quoter quoter;

    if (!p_att_key_id || (!list && att_key_id_list_size))
        return SGX_ERROR_INVALID_PARAMETER;
    if (list && (att_key_id_list_size < sizeof *list + sizeof *list->keys || list->id ||
                 list->version || list->count > MOST_KEYS ||
                 att_key_id_list_size != sizeof *list + list->count * sizeof *list->keys))
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = look(&quoter);
    if (status != SGX_SUCCESS)
        return status;
    if (!list) {
        memcpy(p_att_key_id, &quoter.key, sizeof quoter.key);
        return SGX_SUCCESS;
    }
    for (uint32_t i = 0; i < list->count; i++)
        if (has_key(&quoter, &list->keys[i])) {
            memcpy(p_att_key_id, &list->keys[i], sizeof list->keys[i]);
            return SGX_SUCCESS;
        }
    return SGX_ERROR_UNSUPPORTED_ATT_KEY_ID;
}

ANSWER sgx_status_t sgx_init_quote_ex(const sgx_att_key_id_t *p_att_key_id,
                                      sgx_target_info_t *p_qe_target_info,
                                      size_t *p_pub_key_id_size, uint8_t *p_pub_key_id) {
    struct quoter quoter;
    int socket;

    if (!p_att_key_id || !p_qe_target_info || !p_pub_key_id_size ||
        (p_pub_key_id && (*p_pub_key_id_size == 0 || *p_pub_key_id_size >= UINT32_MAX)))
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = open_for(p_att_key_id, &quoter, &socket);
    if (status != SGX_SUCCESS)
        return status;
    quoting_close(socket);
    if (!p_pub_key_id) {
        *p_pub_key_id_size = sizeof quoter.key_hash;
        return SGX_SUCCESS;
    }
    if (*p_pub_key_id_size != sizeof quoter.key_hash)
        return SGX_ERROR_INVALID_PARAMETER;
    memcpy(p_qe_target_info, &quoter.target, sizeof quoter.target);
    memcpy(p_pub_key_id, quoter.key_hash, sizeof quoter.key_hash);
    return SGX_SUCCESS;
}

ANSWER sgx_status_t sgx_get_quote_size_ex(const sgx_att_key_id_t *p_att_key_id,
                                          uint32_t *p_quote_size) {
    struct quoter quoter;
    int socket;

    if (!p_att_key_id || !p_quote_size)
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = open_for(p_att_key_id, &quoter, &socket);
    if (status != SGX_SUCCESS)
        return status;
    quoting_close(socket);
    *p_quote_size = quoter.quote_size;
    return SGX_SUCCESS;
}

ANSWER sgx_status_t sgx_get_quote_ex(const sgx_report_t *p_app_report,
                                     const sgx_att_key_id_t *p_att_key_id,
                                     sgx_qe_report_info_t *p_qe_report_info, uint8_t *p_quote,
                                     uint32_t quote_size) {
    struct quoter quoter;
    int socket;

    if (!p_app_report || !p_att_key_id || !p_quote || quote_size == 0)
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = open_for(p_att_key_id, &quoter, &socket);
    if (status != SGX_SUCCESS)
        return status;
    status = SGX_ERROR_INVALID_PARAMETER;
    if (quote_size >= quoter.quote_size)
        status = status_of(
            quoting_make(socket, p_app_report, p_qe_report_info, p_quote, quoter.quote_size));
    quoting_close(socket);
    return status;
}

ANSWER sgx_status_t sgx_get_supported_att_key_id_num(uint32_t *p_att_key_id_num) {
    struct quoter quoter;

    if (!p_att_key_id_num)
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = look(&quoter);
    if (status == SGX_SUCCESS)
        *p_att_key_id_num = 1;
    return status;
}

ANSWER sgx_status_t sgx_get_supported_att_key_ids(sgx_att_key_id_ext_t *p_att_key_id_list,
                                                  uint32_t att_key_id_num) {
    struct quoter quoter;

    if (!p_att_key_id_list || att_key_id_num == 0)
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = look(&quoter);
    if (status != SGX_SUCCESS)
        return status;
    if (att_key_id_num != 1)
        return SGX_ERROR_INVALID_PARAMETER;
    *p_att_key_id_list = quoter.key;
    return SGX_SUCCESS;
}
