/* SPDX-License-Identifier: Apache-2.0 */
/* Calls functions directly and in the enclave: host ENCLAVE. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "calls_u.h"
#include "sgx_urts.h"

enum { BATCH = 50, BATCHES = 2000, ROWS = 4 };

void nothing_(void);
int64_t add_(int64_t left, int64_t right);
void take_(const uint8_t *bytes, size_t size);

static sgx_enclave_id_t id;
static uint8_t bytes[65536];

int64_t answer(int64_t value) { return value + 1; }

static void check(sgx_status_t status)
{
    if (status == SGX_SUCCESS) return;
    fprintf(stderr, "the enclave answers 0x%x\n", status);
    exit(1);
}

static void directly(int row)
{
    switch (row) {
    case 0: nothing_(); break;
    case 1: (void)add_(40, 2); break;
    default: take_(bytes, row == 2 ? 64 : sizeof bytes);
    }
}

static void within(int row)
{
    int64_t result;
    switch (row) {
    case 0: check(nothing(id)); break;
    case 1: check(add(id, &result, 40, 2)); break;
    default: check(take(id, bytes, row == 2 ? 64 : sizeof bytes));
    }
}

static void with_ocall(int row)
{
    int64_t result;
    check(ask(id, &result, row));
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double p50(void (*call)(int), int row)
{
    static double taken[BATCHES];
    for (int i = 0; i < BATCHES; i++) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (int j = 0; j < BATCH; j++) call(row);
        clock_gettime(CLOCK_MONOTONIC, &end);
        taken[i] = (double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec);
    }
    qsort(taken, BATCHES, sizeof *taken, ascending);
    return taken[BATCHES / 2] / BATCH / 1000;
}

int main(int count, char **arguments)
{
    static const char *const names[ROWS] = {"no parameters", "two numbers and a result",
                                            "64 bytes in", "64 KiB in"};
    sgx_launch_token_t token = {0};
    int updated = 0;
    if (count != 2) return 2;
    check(sgx_create_enclave(arguments[1], 1, &token, &updated, &id, NULL));
    for (int row = 0; row < ROWS; row++) {
        double direct = p50(directly, row), entered = p50(within, row);
        printf("C host, %-28s %9.3f us directly %9.2f us as an ECALL, %8.0f x\n", names[row], direct,
               entered, entered / direct);
    }
    printf("C host, an OCALL within an ECALL              %22.2f us more\n",
           p50(with_ocall, 1) - p50(with_ocall, 0));
    check(sgx_destroy_enclave(id));
    return 0;
}
