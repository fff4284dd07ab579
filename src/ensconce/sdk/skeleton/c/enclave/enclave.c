/* The trusted side. Arguments are copies in enclave memory, made and checked by the code that comes
   from enclave.edl; their contents are the host's, and may be anything, and a pointer may be NULL. */
#include "enclave_t.h"

#include <stdio.h>
#include <string.h>

#include "sgx_error.h"

int greet(const char *name, char *greeting, size_t size)
{
    if (name == NULL || greeting == NULL) return SGX_ERROR_INVALID_PARAMETER;
    int length = snprintf(greeting, size, "Hello, %s, from inside the enclave.", name);
    if (length < 0 || (size_t)length >= size) {
        memset(greeting, 0, size);
        return SGX_ERROR_INVALID_PARAMETER;
    }
    return (int)report(greeting);
}

uint64_t total(const uint32_t *numbers, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; numbers != NULL && i < count; i++) sum += numbers[i];
    return sum;
}
