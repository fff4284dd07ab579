/* SPDX-License-Identifier: Apache-2.0 */
/* What the C++ library makes of pthread. */
#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "std_t.h"

static std::atomic<int> ends;

struct Counted {
    int value = 1;
    ~Counted() { ends += value; }
};
static thread_local Counted counted;

/* 0 when all met, and each destroyed its own thread-local object at its end. */
int run(int threads)
{
    std::mutex mutex;
    std::condition_variable all;
    std::vector<std::thread> made;
    int here = 0;
    ends = 0;
    for (int i = 0; i < threads; i++)
        made.emplace_back([&] {
            counted.value = 10;
            std::unique_lock<std::mutex> lock(mutex);
            here++;
            all.notify_all();
            all.wait(lock, [&] { return here == threads; });
            std::this_thread::yield();
        });
    for (auto &each : made) each.join();
    if (here != threads || ends != 10 * threads) return 1;
    return std::async(std::launch::async, [] { return 6 * 7; }).get() == 42 ? 0 : 2;
}

/* How many were there when the next one was refused, by an exception. */
int too_many(int threads)
{
    std::promise<void> go;
    std::shared_future<void> gone(go.get_future());
    std::vector<std::thread> made;
    try {
        for (int i = 0; i < threads; i++) made.emplace_back([gone] { gone.wait(); });
    } catch (const std::system_error &error) {
        if (error.code() != std::errc::resource_unavailable_try_again) return -1;
    }
    go.set_value();
    for (auto &each : made) each.join();
    return static_cast<int>(made.size());
}

/* What this ECALL's thread has still to destroy is for the next one to see. */
int destroyed()
{
    counted.value = 1000;
    return ends.exchange(0);
}
