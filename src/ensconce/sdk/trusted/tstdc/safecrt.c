/* SPDX-License-Identifier: Apache-2.0 */
/* Copies with limits, and copies that may leave the enclave. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "mbusafecrt.h"
#include "sgx_spinlock.h"

/* Keep the compiler from dropping stores to a buffer that nobody reads any more. */
static void keep(void *buffer)
{
    __asm__ __volatile__("" ::"r"(buffer) : "memory");
}

typedef void *(*copy_function)(void *, const void *, size_t);
typedef void *(*set_function)(void *, int, size_t);

/* Copy when all fits, else leave zeros: half a copy must not pass for a whole one. */
static errno_t checked(copy_function copy, set_function set, void *dest, size_t size,
                       const void *src, size_t count)
{
    if (count == 0) return 0;
    if (dest == NULL) return errno = EINVAL;
    if (src == NULL || count > size) {
        set(dest, 0, size);
        return errno = src == NULL ? EINVAL : ERANGE;
    }
    copy(dest, src, count);
    return 0;
}

errno_t memcpy_s(void *dest, size_t size, const void *src, size_t count)
{
    return checked(memcpy, memset, dest, size, src, count);
}

errno_t memmove_s(void *dest, size_t size, const void *src, size_t count)
{
    return checked(memmove, memset, dest, size, src, count);
}

errno_t memset_s(void *dest, size_t size, int value, size_t count)
{
    if (dest == NULL) return EINVAL;
    memset(dest, value, count < size ? count : size);
    keep(dest);
    return count <= size ? 0 : EOVERFLOW;
}

/* One narrow store, between clearing the fill buffers and waiting until it has left them. */
static void store_byte(unsigned char *dest, unsigned char value)
{
    uint16_t selector;
    __asm__ __volatile__("mov %%ds, %0\n\t"
                         "verw %0\n\t"
                         "movb %2, %1\n\t"
                         "mfence\n\t"
                         "lfence"
                         : "=&m"(selector), "=m"(*dest)
                         : "q"(value)
                         : "cc", "memory");
}

void *memcpy_verw(void *dest, const void *src, size_t count)
{
    unsigned char *to = dest;
    const unsigned char *from = src;
    for (; count > 0 && (uintptr_t)to % 8 != 0; count--) store_byte(to++, *from++);
    for (; count >= 8; count -= 8, to += 8, from += 8) {
        uint64_t word;
        memcpy(&word, from, sizeof word);
        *(volatile uint64_t *)to = word;
    }
    for (; count > 0; count--) store_byte(to++, *from++);
    return dest;
}

void *memmove_verw(void *dest, const void *src, size_t count)
{
    unsigned char *to = dest;
    const unsigned char *from = src;
    if ((uintptr_t)to - (uintptr_t)from >= count) return memcpy_verw(dest, src, count);
    while (count-- > 0) store_byte(to + count, from[count]);
    return dest;
}

void *memset_verw(void *dest, int value, size_t count)
{
    unsigned char *to = dest;
    uint64_t word = 0x0101010101010101ull * (unsigned char)value;
    for (; count > 0 && (uintptr_t)to % 8 != 0; count--) store_byte(to++, (unsigned char)value);
    for (; count >= 8; count -= 8, to += 8) *(volatile uint64_t *)to = word;
    for (; count > 0; count--) store_byte(to++, (unsigned char)value);
    return dest;
}

errno_t memcpy_verw_s(void *dest, size_t size, const void *src, size_t count)
{
    return checked(memcpy_verw, memset_verw, dest, size, src, count);
}

errno_t memmove_verw_s(void *dest, size_t size, const void *src, size_t count)
{
    return checked(memmove_verw, memset_verw, dest, size, src, count);
}

errno_t memset_verw_s(void *dest, size_t size, int value, size_t count)
{
    if (dest == NULL) return EINVAL;
    memset_verw(dest, value, count < size ? count : size);
    return count <= size ? 0 : EOVERFLOW;
}

void *memcpy_nochecks(void *dest, const void *src, size_t count)
{
    return memcpy(dest, src, count);
}

int consttime_memequal(const void *left, const void *right, size_t count)
{
    const volatile unsigned char *a = left, *b = right;
    unsigned char difference = 0;
    while (count-- > 0) difference |= *a++ ^ *b++;
    return difference == 0;
}

uint32_t sgx_spin_lock(sgx_spinlock_t *lock)
{
    while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) != 0)
        while (*lock != 0) __asm__ __volatile__("pause");
    return 0;
}

uint32_t sgx_spin_unlock(sgx_spinlock_t *lock)
{
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
    return 0;
}
