/* SPDX-License-Identifier: Apache-2.0 */
/* The untrusted functions of the test enclave, and an sgx_ecall that answers by itself. */
#include <errno.h>
#include <stdio.h>

#include "Enclave_u.h"

int ocall_print(const char *text) { printf("%s ", text); return 7; }
void ocall_naked(void) { printf("naked "); }
int64_t ocall_read(int fd, void *buffer, size_t n)
{
    memset(buffer, fd, n);
    errno = 9;
    return -1;
}
void ocall_swap(uint32_t *values, int n) { (void)values; (void)n; }
void ocall_edit(char *text) { (void)text; }
void ocall_edit_wide(wchar_t *text) { (void)text; }
void ocall_items(struct item *items, size_t n) { (void)items; (void)n; }
void ocall_show(struct item *item) { (void)item; }
void ocall_raw(void *address) { (void)address; }

struct print { int result; const char *text; };
struct read { int64_t result; int error; int fd; char *buffer; size_t n; };
struct length { int result; const char *text; size_t size; };

sgx_status_t sgx_ecall(const sgx_enclave_id_t eid, const int index, const void *table, void *ms)
{
    const struct { size_t count; sgx_status_t (*call[9])(void *); } *ocalls = table;
    char buffer[3] = {0};
    struct print print = {0, "printed"};
    struct read read = {0, 0, 65, buffer, 2};
    printf("%d %d %zu ", (int)eid, index, ocalls->count);
    ocalls->call[0](&print);
    ocalls->call[2](&read);
    printf("%d %s %d %d ", print.result, buffer, (int)read.result, read.error);
    printf("%d %d ", ocalls->call[1](NULL), ocalls->call[1](&print));
    if (ms != NULL) {
        printf("%zu ", ((struct length *)ms)->size);
        ((struct length *)ms)->result = 42;
    }
    return SGX_SUCCESS;
}

int main(void)
{
    int result = 0;
    printf("%d ", ecall_naked(3));
    printf("%d ", ecall_length(4, &result, "four"));
    printf("%d", result);
    return ecall_length(5, NULL, NULL) != SGX_SUCCESS;
}
