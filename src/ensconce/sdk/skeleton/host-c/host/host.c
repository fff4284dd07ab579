/* The untrusted side of @@name: loading, and the OCALLs. */
#include "host.h"

#include <stdio.h>
#include <stdlib.h>

#include "enclave_u.h"

sgx_enclave_id_t load(const char *file)
{
    sgx_enclave_id_t id = 0;
    sgx_status_t status = sgx_create_enclave(file, SGX_DEBUG_FLAG, NULL, NULL, &id, NULL);
    if (status != SGX_SUCCESS) {
        fprintf(stderr, "%s can't be loaded: status %#x\n", file, (unsigned)status);
        exit(1);
    }
    return id;
}

void report(const char *text)
{
    printf("the enclave reports: %s\n", text);
}
