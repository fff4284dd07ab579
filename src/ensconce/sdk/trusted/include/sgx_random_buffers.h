/* SPDX-License-Identifier: Apache-2.0 */
/* Objects and stack frames at random places, so that who watches addresses learns less. C++11 and
   later. */
#ifndef SGX_RANDOM_BUFFERS_H
#define SGX_RANDOM_BUFFERS_H

#if !defined(__cplusplus) || __cplusplus < 201103L
#error sgx_random_buffers.h is for C++11 and later
#endif

#include <cstddef>
#include <new>
#include <utility>

#include <stdlib.h>
#include <string.h>

/* A random number of 16, 32 or 64 bits. A processor that has none left ends the enclave. */
template <class R = unsigned>
inline R rdrand(void)
{
    static_assert(sizeof(R) >= 2 && sizeof(R) <= 8, "RDRAND gives 16, 32 or 64 bits");
    for (int tries = 0; tries < 1000; tries++) {
        R value;
        unsigned char ok;
        __asm__ __volatile__("rdrand %0; setc %1" : "=r"(value), "=qm"(ok)::"cc");
        if (ok) return value;
    }
    __builtin_trap();
}

template <class R, class... Parameters, class... Arguments>
__attribute__((noinline)) R _random_stack_call(R (*function)(Parameters...),
                                               Arguments &&...arguments)
{
    return function(std::forward<Arguments>(arguments)...);
}

/* Call a function 1 to M bytes further down the stack. It should not be one that is inlined. */
template <unsigned M = 0x1000, class R, class... Parameters, class... Arguments>
R random_stack_advance(R (*function)(Parameters...), Arguments &&...arguments)
{
    volatile char *gap = static_cast<volatile char *>(__builtin_alloca(rdrand() % M + 1));
    __asm__ __volatile__("" ::"r"(gap) : "memory");
    return _random_stack_call(function, std::forward<Arguments>(arguments)...);
}

/* Fill `size` bytes with random integers; nullptr for a size that is not a multiple of T's. */
template <class T>
inline T *random_integers(T *ptr, std::size_t size)
{
    if (size % sizeof(T) != 0) return nullptr;
    for (std::size_t i = size / sizeof(T); i > 0;) ptr[--i] = rdrand<T>();
    return ptr;
}

/* Fill `size` bytes with random ones. */
template <class T>
inline T *random_fill(T *ptr, std::size_t size)
{
    unsigned char *to = reinterpret_cast<unsigned char *>(ptr);
    while (size > 0) {
        std::size_t word = rdrand<std::size_t>();
        std::size_t part = size < sizeof word ? size : sizeof word;
        memcpy(to, &word, part);
        to += part;
        size -= part;
    }
    return ptr;
}

/* Room for a T, aligned to A, at a random one of the places in M bytes more than it takes. It does
   not keep the object's address, and is wiped at its end. */
template <class T, std::size_t A, unsigned M = 0x1000>
struct alignas(A) randomly_placed_buffer {
    static_assert(M >= A && M % A == 0, "the room to move is a multiple of the alignment");

    /* Bytes for `count` objects. */
    static constexpr std::size_t size(std::size_t count = 1)
    {
        return sizeof(T) * count + M - A;
    }

    randomly_placed_buffer &wipe(std::size_t count = 1)
    {
        memset(__bigger_, 0, size(count));
        __asm__ __volatile__("" ::"r"(__bigger_) : "memory");
        return *this;
    }

    randomly_placed_buffer &reset(std::size_t count = 1)
    {
        return wipe(count);
    }

    ~randomly_placed_buffer(void)
    {
        wipe();
    }

    /* Where `count` objects may be: zeros, not constructed. For more than one, the buffer was made
       with room for them, by `new (count)` or in memory of size(count) bytes. */
    T *randomize_object(std::size_t count = 1)
    {
        reset(count);
        return reinterpret_cast<T *>(__bigger_ + ((rdrand() % M) & ~(A - 1)));
    }

    template <class... Arguments>
    T *instantiate_object(Arguments &&...arguments)
    {
        return ::new (static_cast<void *>(randomize_object()))
            T(std::forward<Arguments>(arguments)...);
    }

    T *instantiate_array(std::size_t count)
    {
        T *first = randomize_object(count);
        for (std::size_t i = 0; i < count; i++) ::new (static_cast<void *>(first + i)) T();
        return first;
    }

    /* Destroy what instantiate_... returned; 0, or `count` for a pointer from elsewhere. */
    std::size_t destroy(T *ptr, std::size_t count = 1)
    {
        char *at = reinterpret_cast<char *>(ptr);
        if (at < __bigger_ || at > __bigger_ + (M - A)) return count;
        while (count > 0) ptr[--count].~T();
        return count;
    }

    /* One of `nbufs` buffers on the heap, with room for `count` objects; nullptr without memory. */
    static void *operator new(std::size_t, std::size_t count = 1, unsigned nbufs = 16) noexcept
    {
        unsigned chosen = rdrand() % (nbufs > 0 ? nbufs : 1);
        void *skipped = nullptr, *result;
        for (unsigned i = 0; i < chosen; i++) { /* a list of those in front, freed again */
            void *buffer = malloc(whole(count));
            if (buffer == nullptr) break;
            *static_cast<void **>(buffer) = skipped;
            skipped = buffer;
        }
        result = align(malloc(whole(count)));
        while (skipped != nullptr) {
            void *next = *static_cast<void **>(skipped);
            free(skipped);
            skipped = next;
        }
        return result;
    }

    static void *operator new(std::size_t, void *place) noexcept
    {
        return place;
    }

    /* Also for one that was placed in memory from malloc, where malloc's alignment is enough. Not
       inlined, as compilers then warn of a free that does not fit operator new. */
    __attribute__((noinline)) static void operator delete(void *ptr) noexcept
    {
        free(ptr != nullptr && over_aligned ? static_cast<void **>(ptr)[-1] : ptr);
    }

private:
    static constexpr bool over_aligned = A > alignof(long double);

    static constexpr std::size_t whole(std::size_t count)
    {
        return size(count) + (over_aligned ? A : sizeof(void *));
    }

    /* The next aligned address behind the start, to which a pointer is kept before it. */
    static void *align(void *start)
    {
        if (start == nullptr || !over_aligned) return start;
        std::size_t address = reinterpret_cast<std::size_t>(start) + A;
        void **result = reinterpret_cast<void **>(address & ~(A - 1));
        result[-1] = start;
        return result;
    }

    char __bigger_[sizeof(T) + M - A];
};

template <class T, unsigned M = 0x1000>
using randomly_placed_object = randomly_placed_buffer<T, alignof(T), M>;

#endif
