// SPDX-License-Identifier: Apache-2.0
// The trusted side: what the owners give stays in this memory, and a number comes out.
#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>

#include "enclave_t.h"
#include "sgx_error.h"

namespace {

// Fewer would tell about single people.
constexpr uint32_t kLeast = 3;

using Variants = std::set<std::string>;

class Study {
public:
    size_t add(const std::string &owner, const std::string &list)
    {
        std::lock_guard<std::mutex> guard(lock_);
        Variants &own = owners_[owner];
        std::istringstream words(list);
        for (std::string word; std::getline(words, word, ',');)
            if (!word.empty()) own.insert(word);
        return own.size();
    }

    uint32_t common(const std::string &one, const std::string &other) const
    {
        std::lock_guard<std::mutex> guard(lock_);
        const Variants &mine = owners_.at(one);  // throws for an owner that nobody knows
        const Variants &theirs = owners_.at(other);
        const auto shared = std::count_if(mine.begin(), mine.end(), [&](const std::string &each) {
            return theirs.find(each) != theirs.end();
        });
        if (shared < kLeast) throw std::domain_error("too few to tell");
        return static_cast<uint32_t>(shared);
    }

private:
    mutable std::mutex lock_;
    std::map<std::string, Variants> owners_;
};

Study study;  // made before the first ECALL runs

void log(const std::string &text)
{
    log_line(text.c_str());
}

// No exception may leave an ECALL: there is nobody outside to catch it.
template <class Call>
int guarded(Call call)
{
    try {
        call();
        return SGX_SUCCESS;
    } catch (const std::out_of_range &) {
        return SGX_ERROR_INVALID_PARAMETER;
    } catch (const std::domain_error &error) {
        log(error.what());
        return SGX_ERROR_SERVICE_UNAVAILABLE;
    } catch (const std::bad_alloc &) {
        return SGX_ERROR_OUT_OF_MEMORY;
    }
}

}  // namespace

int add(const char *owner, const char *variants)
{
    if (owner == nullptr || variants == nullptr) return SGX_ERROR_INVALID_PARAMETER;
    return guarded([&] {
        const size_t count = study.add(owner, variants);
        log(std::string(owner) + " has " + std::to_string(count) + " variants");
    });
}

int count_common(const char *one, const char *other, uint32_t *count)
{
    if (one == nullptr || other == nullptr || count == nullptr) return SGX_ERROR_INVALID_PARAMETER;
    return guarded([&] { *count = study.common(one, other); });
}
