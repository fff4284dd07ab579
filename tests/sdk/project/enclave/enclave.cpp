// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "project_t.h"
#include "sgx_tseal.h"
#include "sgx_trts.h"

// Nobody has to define it.
extern "C" int nowhere() __attribute__((weak));

static std::mutex lock;

int sort(int *numbers, size_t count)
{
    std::lock_guard<std::mutex> guard(lock);
    std::vector<int> sorted(numbers, numbers + count);
    std::sort(sorted.begin(), sorted.end());
    std::copy(sorted.begin(), sorted.end(), numbers);
    std::ostringstream text;
    text << "sorted " << count;
    say(text.str().c_str());
    return nowhere == nullptr ? 0 : -1;
}

int fail(const char *why, char *said)
{
    try {
        throw std::runtime_error(why);
    } catch (const std::exception &error) {
        strlcpy(said, error.what(), 64);
        return 1;
    }
}

int seal_and_open(const uint8_t *secret, size_t size)
{
    const uint32_t length = static_cast<uint32_t>(size);
    const uint32_t sealed_size = sgx_calc_sealed_data_size(0, length);
    std::unique_ptr<uint8_t[]> memory(new uint8_t[sealed_size]);
    std::unique_ptr<uint8_t[]> opened(new uint8_t[size]);
    sgx_sealed_data_t *sealed = reinterpret_cast<sgx_sealed_data_t *>(memory.get());
    sgx_status_t status = sgx_seal_data(0, nullptr, length, secret, sealed_size, sealed);
    if (status != SGX_SUCCESS) return status;
    uint32_t got = length;
    status = sgx_unseal_data(sealed, nullptr, nullptr, opened.get(), &got);
    if (status != SGX_SUCCESS) return status;
    return got == length && memcmp(opened.get(), secret, size) == 0 ? 0 : -1;
}
