// The trusted side. Arguments are copies in enclave memory, made and checked by the code that comes
// from enclave.edl; their contents are the host's, and may be anything, and a pointer may be null.
#include "enclave_t.h"

#include <cstring>
#include <exception>
#include <numeric>
#include <string>

#include "sgx_error.h"

// No exception may leave an ECALL: there is nobody outside to catch it.
int greet(const char *name, char *greeting, size_t size)
{
    if (name == nullptr || greeting == nullptr) return SGX_ERROR_INVALID_PARAMETER;
    try {
        const std::string text = "Hello, " + std::string(name) + ", from inside the enclave.";
        if (text.size() >= size) return SGX_ERROR_INVALID_PARAMETER;
        std::memcpy(greeting, text.c_str(), text.size() + 1);
        return report(text.c_str());
    } catch (const std::exception &) {
        return SGX_ERROR_OUT_OF_MEMORY;
    }
}

uint64_t total(const uint32_t *numbers, size_t count)
{
    if (numbers == nullptr) return 0;
    return std::accumulate(numbers, numbers + count, uint64_t{0});
}
