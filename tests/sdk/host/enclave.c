/* SPDX-License-Identifier: Apache-2.0 */
/* An enclave that a host in C calls. */
#include "host_t.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sgx_trts_exception.h"
#include "sgx_tseal.h"
#include "sgx_utils.h"

int add(int left, int right)
{
    return left + right;
}

int greet(const char *name, char *greeting, size_t size)
{
    char line[64];
    snprintf(line, sizeof line, "greeting %s", name);
    print(line);
    return snprintf(greeting, size, "Hello, %s.", name);
}

int inner(int value)
{
    return nest(value);
}

int nest(int depth)
{
    int result = 0;
    if (depth == 0) return 100;
    if (reenter(&result, depth - 1) != SGX_SUCCESS) return -1;
    return result + 1;
}

static int step_over(sgx_exception_info_t *info)
{
    info->cpu_context.rip += 2;
    info->cpu_context.rax = 77;
    return EXCEPTION_CONTINUE_EXECUTION;
}

int rescue(int left, int right)
{
    static void *handler;
    int quotient = left;
    if (handler == NULL) handler = sgx_register_exception_handler(1, step_over);
    __asm__ __volatile__("cltd\n\tidivl %1" : "+a"(quotient) : "c"(right) : "rdx", "cc");
    return quotient;
}

void give_up(void)
{
    abort();
}

uint64_t spin(uint64_t rounds)
{
    volatile uint64_t count = 0;
    while (count != rounds) count++;
    return count;
}

int wait_outside(void)
{
    return (int)pause_outside();
}

/* CPUID.07H:EBX.SGX, as the host's library has it */
int has_sgx(void)
{
    int registers[4] = {0};
    sgx_oc_cpuidex(registers, 7, 0);
    return registers[1] >> 2 & 1;
}

/* Addresses that are no TCS's have no event. */
int wait_for_nobody(void)
{
    int set = 0, waited = 0;
    sgx_thread_set_untrusted_event_ocall(&set, (const void *)wait_for_nobody);
    sgx_thread_wait_untrusted_event_ocall(&waited, NULL);
    return set == SGX_ERROR_INVALID_PARAMETER && waited == SGX_ERROR_INVALID_PARAMETER;
}

int report(void)
{
    sgx_target_info_t target;
    sgx_report_t mine;
    sgx_self_target(&target);
    if (sgx_create_report(&target, NULL, &mine) != SGX_SUCCESS) return -1;
    return (int)sgx_verify_report(&mine);
}

uint64_t sum_on_heap(size_t pages)
{
    uint64_t sum = 0;
    for (int round = 0; round < 3; round++) {
        unsigned char *memory = malloc(pages * 4096);
        if (memory == NULL) return 0;
        for (size_t i = 0; i < pages; i++) memory[i * 4096] = (unsigned char)i;
        for (size_t i = 0; i < pages; i++) sum += memory[i * 4096];
        free(memory);
    }
    return sum;
}

uint32_t sealed_size(uint32_t size)
{
    return sgx_calc_sealed_data_size(0, size);
}

int seal(const uint8_t *secret, uint32_t size, uint8_t *sealed, uint32_t sealed_size)
{
    return (int)sgx_seal_data(0, NULL, size, secret, sealed_size, (sgx_sealed_data_t *)sealed);
}

int unseal(const uint8_t *sealed, uint32_t sealed_size, uint8_t *secret, uint32_t size)
{
    if (sealed_size < sizeof(sgx_sealed_data_t)) return -1;
    return (int)sgx_unseal_data((const sgx_sealed_data_t *)sealed, NULL, NULL, secret, &size);
}
