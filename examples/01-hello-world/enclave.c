/* SPDX-License-Identifier: Apache-2.0 */
/* The trusted side of hello world: ordinary C on an ordinary libc, inside an enclave. */
#include "enclave_t.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sgx_tseal.h"
#include "sgx_utils.h"

static uint64_t calls;

static void count(void)
{
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
}

void greet(const char *name, char *greeting, size_t size)
{
    char line[128];
    count();
    snprintf(line, sizeof line, "Hello from inside the enclave, %s!", name);
    print(line);
    if (greeting != NULL) snprintf(greeting, size, "Pleased to meet you, %s.", name);
}

int64_t add(int64_t left, int64_t right)
{
    count();
    return (int64_t)((uint64_t)left + (uint64_t)right);
}

static int compare(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

size_t count_words(const char *text)
{
    size_t words = 0, different = 0;
    if (text == NULL) return 0; /* a pointer that the host passes may be NULL */
    char *copy = strdup(text), *rest = NULL;
    char **word = calloc(strlen(text) / 2 + 1, sizeof *word);
    count();
    if (copy != NULL && word != NULL) {
        for (char *next = strtok_r(copy, " \n\t", &rest); next != NULL;
             next = strtok_r(NULL, " \n\t", &rest))
            word[words++] = next;
        qsort(word, words, sizeof *word, compare);
        for (size_t i = 0; i < words; i++)
            different += i == 0 || strcmp(word[i - 1], word[i]) != 0;
    }
    free(word);
    free(copy);
    return different;
}

int report(const sgx_target_info_t *target, const sgx_report_data_t *data, sgx_report_t *result)
{
    count();
    return (int)sgx_create_report(target, data, result);
}

uint32_t sealed_size(uint32_t secret_size)
{
    count();
    return sgx_calc_sealed_data_size(0, secret_size);
}

int seal(const uint8_t *secret, uint32_t size, uint8_t *sealed, uint32_t sealed_size)
{
    count();
    return (int)sgx_seal_data(0, NULL, size, secret, sealed_size, (sgx_sealed_data_t *)sealed);
}

int unseal(const uint8_t *sealed, uint32_t sealed_size, uint8_t *secret, uint32_t size,
           uint32_t *written)
{
    const sgx_sealed_data_t *blob = (const sgx_sealed_data_t *)sealed;
    count();
    if (sealed == NULL || written == NULL) return SGX_ERROR_INVALID_PARAMETER;
    *written = size;
    /* The lengths in the blob are the host's: they have to fit what it really passed. */
    if (sealed_size < sizeof *blob ||
        sgx_calc_sealed_data_size(sgx_get_add_mac_txt_len(blob), sgx_get_encrypt_txt_len(blob)) !=
            sealed_size)
        return SGX_ERROR_INVALID_PARAMETER;
    return (int)sgx_unseal_data(blob, NULL, NULL, secret, written);
}

uint64_t answered(void)
{
    return __atomic_load_n(&calls, __ATOMIC_RELAXED);
}
