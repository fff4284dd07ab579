/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave that lets its host try everything. Pointers are the enclave's own copies, made and
   checked by the code that comes from the EDL; user_check is the exception. NULL stays NULL. */
#include "enclave_t.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "sgx_lfence.h"
#include "sgx_trts.h"

static uint32_t answers;

static void count(void)
{
    __atomic_fetch_add(&answers, 1, __ATOMIC_RELAXED);
}

uint32_t checksum(const uint8_t *data, size_t size)
{
    uint32_t sum = 0;
    count();
    for (size_t i = 0; data != NULL && i < size; i++) sum = sum * 31 + data[i];
    return sum;
}

void pattern(uint8_t *target, size_t size)
{
    count();
    for (size_t i = 0; target != NULL && i < size; i++) target[i] = (uint8_t)i;
}

void reverse(int32_t *numbers, size_t size)
{
    count();
    for (size_t i = 0; numbers != NULL && i < size / 2; i++) {
        int32_t other = numbers[size - 1 - i];
        numbers[size - 1 - i] = numbers[i];
        numbers[i] = other;
    }
}

int divide(int32_t left, int32_t right, int32_t *quotient)
{
    count();
    if (quotient == NULL || right == 0 || (left == INT32_MIN && right == -1)) return SGX_ERROR_INVALID_PARAMETER;
    *quotient = left / right;
    return SGX_SUCCESS;
}

size_t count_letters(const char *text)
{
    size_t letters = 0;
    count();
    for (; text != NULL && *text != 0; text++) letters += isalpha((unsigned char)*text) != 0;
    return letters;
}

void shout(char *text)
{
    count();
    for (; text != NULL && *text != 0; text++) *text = (char)toupper((unsigned char)*text);
}

void move(struct point *where, int32_t by)
{
    count();
    if (where == NULL) return;
    where->x = (int32_t)((uint32_t)where->x + (uint32_t)by);
    where->y = (int32_t)((uint32_t)where->y + (uint32_t)by);
}

int64_t span(const struct point *points, size_t size)
{
    int64_t low = INT64_MAX, high = INT64_MIN;
    count();
    for (size_t i = 0; points != NULL && i < size; i++) {
        if (points[i].x < low) low = points[i].x;
        if (points[i].x > high) high = points[i].x;
    }
    return size == 0 || points == NULL ? 0 : high - low;
}

int sum(const uint8_t *data, size_t size, uint64_t *total)
{
    count();
    /* Without this check the host could pass an address of ours, and read the sum of our secrets.
       The host can also change the memory meanwhile: read each byte once. */
    if (total == NULL || !sgx_is_outside_enclave(data, size)) return SGX_ERROR_INVALID_PARAMETER;
    sgx_lfence();
    *total = 0;
    for (size_t i = 0; i < size; i++) *total += ((const volatile uint8_t *)data)[i];
    return SGX_SUCCESS;
}

int64_t ask(const char *question)
{
    int64_t result = 0;
    char name[16] = "";
    size_t length = 0;
    count();
    /* What an OCALL answers is the host's word: a length above the buffer's size, for example. */
    if (read_name(&length, name, sizeof name) != SGX_SUCCESS || length > sizeof name) return -1;
    return answer(&result, question) == SGX_SUCCESS ? (int64_t)((uint64_t)result + length) : -1;
}

static int64_t down(int32_t depth)
{
    int64_t result = 0;
    if (depth <= 0) return 0;
    return go_down(&result, depth - 1) == SGX_SUCCESS ? (int64_t)((uint64_t)result + 1) : -1;
}

int64_t descend(int32_t depth)
{
    count();
    return down(depth);
}

int64_t deeper(int32_t depth)
{
    return down(depth);
}

static uint32_t arrived;

uint32_t meet(uint32_t how_many)
{
    count();
    __atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < how_many) __builtin_ia32_pause();
    return __atomic_load_n(&arrived, __ATOMIC_SEQ_CST);
}

void hold(void)
{
    count();
    (void)wait();
}

uint32_t answered(void)
{
    return __atomic_load_n(&answers, __ATOMIC_RELAXED);
}

void crash(void)
{
    *(volatile int *)8 = 1; /* nothing is there */
}

int fill(size_t mebibytes, uint64_t *total)
{
    size_t size = mebibytes << 20;
    count();
    if (total == NULL || mebibytes >= 1024) return SGX_ERROR_INVALID_PARAMETER;
    uint8_t *memory = malloc(size);
    if (memory == NULL) return SGX_ERROR_OUT_OF_MEMORY;
    *total = 0;
    memset(memory, 1, size);
    for (size_t i = 0; i < size; i++) *total += memory[i];
    free(memory);
    return SGX_SUCCESS;
}
