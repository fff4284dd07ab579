/* SPDX-License-Identifier: Apache-2.0 */
/* Random bytes from RDRAND: the only source that the host has no hand in. */
#include <string.h>

#include "sgx_trts.h"

/* The manual promises a value within ten tries on a healthy part (SDM vol. 1, 7.3.17). */
#define TRIES 10

static int random_word(uint64_t *word)
{
    for (int i = 0; i < TRIES; i++) {
        unsigned char ok;
        __asm__ __volatile__("rdrand %0; setc %1" : "=r"(*word), "=qm"(ok)::"cc");
        if (ok) return 1;
    }
    return 0;
}

sgx_status_t sgx_read_rand(unsigned char *rand, size_t length_in_bytes)
{
    if (rand == NULL || length_in_bytes == 0 ||
        !(sgx_is_within_enclave(rand, length_in_bytes) ||
          sgx_is_outside_enclave(rand, length_in_bytes)))
        return SGX_ERROR_INVALID_PARAMETER;
    uint64_t word;
    while (length_in_bytes > 0) {
        if (!random_word(&word)) return SGX_ERROR_UNEXPECTED;
        size_t part = length_in_bytes < sizeof word ? length_in_bytes : sizeof word;
        memcpy(rand, &word, part);
        rand += part;
        length_in_bytes -= part;
    }
    word = 0;
    __asm__ __volatile__("" ::"r"(&word) : "memory"); /* the last word may not stay on the stack */
    return SGX_SUCCESS;
}
