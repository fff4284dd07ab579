// SPDX-License-Identifier: Apache-2.0
// What C++ needs of a runtime: exceptions, type information, statics, thread-local data, streams.
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "cxx_t.h"

namespace {

struct Shape {
    virtual ~Shape() = default;
    virtual int corners() const = 0;
};
struct Triangle : Shape {
    int corners() const override { return 3; }
};
struct Square : Shape {
    int corners() const override { return 4; }
};

int unwound;
struct Counted {
    ~Counted() { unwound++; }
};

[[noreturn]] void fail(int depth)
{
    Counted counted;
    if (depth > 0) fail(depth - 1);
    throw std::out_of_range("at the bottom");
}

struct Made {
    int value;
    Made() : value(41) { value++; }
};
Made made_at_start;
std::map<std::string, int> table = {{"one", 1}, {"two", 2}};

thread_local int counter = 7;
std::mutex lock;
uint64_t total;

}  // namespace

int throw_and_catch(int depth)
{
    unwound = 0;
    try {
        fail(depth);
    } catch (const std::out_of_range &error) {
        return std::strcmp(error.what(), "at the bottom") == 0 ? unwound : -1;
    }
}

int cast(int kind)
{
    std::unique_ptr<Shape> shape;
    if (kind == 3) shape = std::make_unique<Triangle>();
    else shape = std::make_unique<Square>();
    const Square *square = dynamic_cast<Square *>(shape.get());
    return square != nullptr ? square->corners() : -shape->corners();
}

int count_words(const char *text, char *most, size_t size)
{
    std::map<std::string, int> seen;
    std::istringstream words(text);
    for (std::string word; words >> word;) seen[word]++;
    std::string best;
    for (const auto &[word, times] : seen)
        if (best.empty() || times > seen[best]) best = word;
    strlcpy(most, best.c_str(), size);
    return static_cast<int>(seen.size());
}

int match(const char *text, char *found, size_t size)
{
    std::smatch parts;
    const std::string subject(text);
    if (!std::regex_search(subject, parts, std::regex("([a-z]+)=([0-9]+)"))) return 0;
    strlcpy(found, parts[1].str().c_str(), size);
    return std::stoi(parts[2]);
}

int statics()
{
    static Made made_when_called;
    return made_at_start.value + made_when_called.value + table["two"];
}

int thread_local_counter()
{
    return counter++;
}

void not_caught()
{
    throw 1;
}

int out_of_bounds(int index)
{
    std::vector<int> numbers = {1, 2, 3};
    return numbers[static_cast<size_t>(index)];
}

uint64_t add_in_threads(uint64_t times)
{
    for (uint64_t i = 0; i < times; i++) {
        std::lock_guard<std::mutex> guard(lock);
        total++;
    }
    return total;
}

int big_aligned()
{
    struct alignas(256) Wide {
        char bytes[256];
    };
    auto wide = std::make_unique<Wide[]>(3);
    return static_cast<int>(reinterpret_cast<uintptr_t>(wide.get()) % 256);
}
