/* SPDX-License-Identifier: Apache-2.0 */
/* A counter whose state survives in a file of the host's: sealed, so that the host can't read or
   change it. VERSION 2 keeps more state than VERSION 1, and reads what version 1 has sealed. */
#include "enclave_t.h"

#include <stddef.h>
#include <string.h>

#include "sgx_tseal.h"

#define ROLLED_BACK 0x10001 /* a status of our own: the state is older than the one in use */

/* Sealed along, in the clear: no other data that the same signer's enclaves seal passes for it. */
static const uint8_t label[] = "examples/03-sealed-state";

/* A later version may only add at the end; `format` is the version that wrote it. */
struct state {
    uint64_t format;
    uint64_t count;
    uint64_t restored; /* since version 2 */
};

static struct state state; /* format 0: not started; one TCS, so no lock */

static uint32_t size_of(uint64_t format)
{
    return format == 1 ? offsetof(struct state, restored) : sizeof(struct state);
}

uint32_t sealed_size(void)
{
    return sgx_calc_sealed_data_size(sizeof label, size_of(VERSION));
}

int start(void)
{
    if (state.format != 0) return SGX_ERROR_INVALID_STATE;
    state = (struct state){.format = VERSION};
    return SGX_SUCCESS;
}

int restore(const uint8_t *sealed, uint32_t size)
{
    const sgx_sealed_data_t *blob = (const sgx_sealed_data_t *)sealed;
    struct state found = {0};
    uint8_t found_label[sizeof label];
    uint32_t length = sizeof found, label_length = sizeof found_label;
    /* The lengths in the blob are the host's: they have to fit what it really passed. */
    if (sealed == NULL || size < sizeof *blob ||
        sgx_calc_sealed_data_size(sgx_get_add_mac_txt_len(blob), sgx_get_encrypt_txt_len(blob)) !=
            size)
        return SGX_ERROR_INVALID_PARAMETER;
    sgx_status_t status =
        sgx_unseal_data(blob, found_label, &label_length, (uint8_t *)&found, &length);
    if (status != SGX_SUCCESS) return (int)status;
    if (label_length != sizeof label || memcmp(found_label, label, sizeof label) != 0 ||
        found.format == 0 || found.format > VERSION || length != size_of(found.format))
        return SGX_ERROR_INVALID_VERSION;
    /* It is genuine. Whether it is the latest, only the memory of this run can tell. */
    if (found.count < state.count) return ROLLED_BACK;
    state = found;
    state.format = VERSION;
    state.restored++;
    return SGX_SUCCESS;
}

int count(uint8_t *sealed, uint32_t size, uint64_t *now)
{
    struct state next = state;
    if (state.format == 0) return SGX_ERROR_INVALID_STATE;
    if (sealed == NULL || now == NULL) return SGX_ERROR_INVALID_PARAMETER;
    next.count++;
    /* To the signer (MRSIGNER): its enclaves of this product, at this ISVSVN or later, open it. */
    sgx_status_t status = sgx_seal_data(sizeof label, label, size_of(VERSION), (uint8_t *)&next,
                                        size, (sgx_sealed_data_t *)sealed);
    if (status != SGX_SUCCESS) return (int)status;
    state = next;
    *now = next.count;
    return SGX_SUCCESS;
}

int restored(uint64_t *times)
{
    if (times == NULL) return SGX_ERROR_INVALID_PARAMETER;
    *times = VERSION == 1 ? 0 : state.restored;
    return SGX_SUCCESS;
}
