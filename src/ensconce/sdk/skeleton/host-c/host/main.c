/* Make a call of each kind: app ENCLAVE. */
#include <stdio.h>

#include "enclave_u.h"
#include "host.h"

int main(int argc, char **argv)
{
    sgx_enclave_id_t id = load(argc > 1 ? argv[1] : "build/enclave.signed.so");
    const uint32_t numbers[] = {20, 21, 1};
    char greeting[128] = "";
    uint64_t sum = 0;
    int refused = 0;

    /* The call's own status first, then what the function in the enclave returned. */
    sgx_status_t status = greet(id, &refused, "@@name", greeting, sizeof greeting);
    if (status == SGX_SUCCESS && !refused) printf("the host got: %s\n", greeting);
    if (status == SGX_SUCCESS) status = total(id, &sum, numbers, 3);
    if (status == SGX_SUCCESS) printf("20 + 21 + 1 = %llu\n", (unsigned long long)sum);
    sgx_destroy_enclave(id);
    return status != SGX_SUCCESS || refused;
}
