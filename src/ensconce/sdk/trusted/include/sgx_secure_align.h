/* SPDX-License-Identifier: Apache-2.0 */
/* Objects with secrets, away from the bytes of cache lines that INTEL-SA-00219 exposes: byte 0 and
   bytes 4 to 7 of each 64. The object is `v`; before it lie the bytes that must hold no secret.
   C++11 and later; needs no library. */
#ifndef SGX_SECURE_ALIGN_H
#define SGX_SECURE_ALIGN_H

#include <cstddef>
#include <cstdint>
#include <utility>

namespace sgx {

namespace secure_align {

constexpr std::size_t line = 64;

/* How many bytes from this position of a line on are not exposed. */
constexpr std::size_t unexposed(std::size_t position)
{
    return position == 0 ? 0 : position < 4 ? 4 - position : position < 8 ? 0 : line - position;
}

/* No secret touches an exposed byte when the object starts at `lead`. */
template <std::size_t... Secrets>
struct safe;

template <>
struct safe<> {
    static constexpr bool at(std::size_t) { return true; }
};

template <std::size_t Offset, std::size_t Length, std::size_t... Secrets>
struct safe<Offset, Length, Secrets...> {
    static constexpr bool at(std::size_t lead)
    {
        return Length <= unexposed((Offset % line + lead) % line) && safe<Secrets...>::at(lead);
    }
};

/* The first safe start in steps of the alignment, a power of two; -1 where there is none. */
template <std::size_t Alignment, std::size_t... Secrets>
constexpr int lead_from(std::size_t start)
{
    return Alignment == 0 || (Alignment & (Alignment - 1)) != 0 || start >= line ? -1
           : safe<Secrets...>::at(start) ? static_cast<int>(start)
                                         : lead_from<Alignment, Secrets...>(start + Alignment);
}

/* The whole object's alignment: no less than asked for, and it lies in one line when it fits. */
constexpr std::size_t boundary(std::size_t alignment, std::size_t size, std::size_t least = 8)
{
    return least < alignment || (least < line && least < size)
               ? boundary(alignment, size, least * 2)
               : least;
}

template <class T, std::size_t Alignment, int Lead>
struct alignas(boundary(Alignment, sizeof(T) + (Lead > 0 ? Lead : 0))) object {
    static_assert(Lead > 0, "no place in a cache line is safe for these secrets");

    char __no_secret_allowed_in_here[Lead > 0 ? Lead : 1];
    T v;

    template <class... Arguments>
    object(Arguments &&...arguments) : v(std::forward<Arguments>(arguments)...)
    {
    }
};

template <class T, std::size_t Alignment>
struct alignas(boundary(Alignment, sizeof(T))) object<T, Alignment, 0> {
    T v;

    template <class... Arguments>
    object(Arguments &&...arguments) : v(std::forward<Arguments>(arguments)...)
    {
    }
};

} // namespace secure_align

/* T with an alignment and its secrets, as offset, length, offset, length, ... */
template <class T, std::size_t Alignment, std::size_t... Secrets>
using custom_alignment_aligned =
    secure_align::object<T, Alignment, secure_align::lead_from<Alignment, Secrets...>(0)>;

template <class T, std::size_t... Secrets>
using custom_alignment = custom_alignment_aligned<T, alignof(T), Secrets...>;

} // namespace sgx

#endif
