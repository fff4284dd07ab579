/* The enclave as its host sees it: check ENCLAVE. Exits with the number of checks that failed. */
#include <stdio.h>
#include <string.h>

#include "enclave_u.h"
#include "host.h"

static int failed;

static void check(int good, const char *what)
{
    printf("%s  %s\n", good ? "ok    " : "FAILED", what);
    failed += !good;
}

int main(int argc, char **argv)
{
    sgx_enclave_id_t id = load(argc > 1 ? argv[1] : "build/enclave.signed.so");
    const uint32_t numbers[] = {0xFFFFFFFF, 1, 40};
    char greeting[64] = "", small[8] = "";
    uint64_t sum = 0;
    int refused = -1;

    sgx_status_t status = greet(id, &refused, "Ada", greeting, sizeof greeting);
    check(status == SGX_SUCCESS && refused == 0, "it greets and reports");
    check(strcmp(greeting, "Hello, Ada, from inside the enclave.") == 0, "the greeting is whole");
    status = greet(id, &refused, "Ada", small, sizeof small);
    check(status == SGX_SUCCESS && refused == SGX_ERROR_INVALID_PARAMETER,
          "a greeting that does not fit is refused");
    status = total(id, &sum, numbers, 3);
    check(status == SGX_SUCCESS && sum == 0x100000028, "it adds without overflow");
    status = total(id, &sum, NULL, 3);
    check(status == SGX_SUCCESS && sum == 0, "a null pointer does no harm");
    sgx_destroy_enclave(id);
    return failed;
}
