// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstring>

#include "project_u.h"
#include "sgx_urts.h"

void say(const char *text)
{
    printf("said: %s\n", text);
}

int main(int, char **argv)
{
    sgx_enclave_id_t enclave;
    sgx_launch_token_t token = {0};
    int updated = 0, result = -1, numbers[] = {3, 1, 2};
    char said[64] = "";
    sgx_status_t status = sgx_create_enclave(argv[1], 1, &token, &updated, &enclave, nullptr);
    if (status != SGX_SUCCESS) return printf("create: 0x%x\n", status), 1;
    status = sort(enclave, &result, numbers, 3);
    printf("sort: 0x%x %d: %d %d %d\n", status, result, numbers[0], numbers[1], numbers[2]);
    status = fail(enclave, &result, "no reason", said);
    printf("fail: 0x%x %d: %s\n", status, result, said);
    status = seal_and_open(enclave, &result, reinterpret_cast<const uint8_t *>("secret"), 6);
    printf("seal: 0x%x %d\n", status, result);
    sgx_destroy_enclave(enclave);
}
