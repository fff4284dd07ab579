/* SPDX-License-Identifier: Apache-2.0 */
/* EGETKEY. */
#include <string.h>

#include "mbusafecrt.h"
#include "sgx_trts.h"
#include "sgx_utils.h"
#include "tservice.h"
#include "trts.h"

/* Its error codes (SDM vol. 3D, 40.4, EGETKEY). */
#define EGETKEY_INVALID_ATTRIBUTE 0x2
#define EGETKEY_INVALID_CPUSVN 0x20
#define EGETKEY_INVALID_ISVSVN 0x40
#define EGETKEY_INVALID_KEYNAME 0x100

static int is_valid(const sgx_key_request_t *request)
{
    if (request->reserved1 != 0 || (request->key_policy & ~POLICY_ALL) != 0) return 0;
    for (size_t i = 0; i < sizeof request->reserved2; i++)
        if (request->reserved2[i] != 0) return 0;
    int separated = (request->key_policy & (POLICY_KSS | SGX_KEYPOLICY_NOISVPRODID)) != 0 ||
                    request->config_svn != 0;
    return !separated || (sgx_self_report()->body.attributes.flags & SGX_FLAGS_KSS) != 0;
}

static sgx_status_t status_of(int error)
{
    switch (error) {
    case 0:
        return SGX_SUCCESS;
    case EGETKEY_INVALID_ATTRIBUTE:
        return SGX_ERROR_INVALID_ATTRIBUTE;
    case EGETKEY_INVALID_CPUSVN:
        return SGX_ERROR_INVALID_CPUSVN;
    case EGETKEY_INVALID_ISVSVN:
        return SGX_ERROR_INVALID_ISVSVN;
    case EGETKEY_INVALID_KEYNAME:
        return SGX_ERROR_INVALID_KEYNAME;
    }
    return SGX_ERROR_UNEXPECTED;
}

sgx_status_t sgx_get_key(const sgx_key_request_t *key_request, sgx_key_128bit_t *key)
{
    _Alignas(512) sgx_key_request_t request;
    _Alignas(16) sgx_key_128bit_t derived;
    if (key == NULL || !sgx_is_within_enclave(key, sizeof *key)) return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status = SGX_ERROR_INVALID_PARAMETER;
    if (key_request != NULL && sgx_is_within_enclave(key_request, sizeof request)) {
        request = *key_request;
        if (is_valid(&request)) status = status_of(tee_egetkey(&request, &derived));
    }
    /* A caller that overlooks the status must not end up with a known key. */
    if (status == SGX_SUCCESS)
        memcpy(key, derived, sizeof derived);
    else
        sgx_read_rand(*key, sizeof *key);
    memset_s(derived, sizeof derived, 0, sizeof derived);
    return status;
}
