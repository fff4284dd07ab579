/* SPDX-License-Identifier: Apache-2.0 */
/* musl's architecture header with the system calls taken out: each is a call of tee_syscall,
   which answers inside the enclave or refuses. */
#define __SYSCALL_LL_E(x) (x)
#define __SYSCALL_LL_O(x) (x)
#define IPC_64 0

long tee_syscall(long number, long a, long b, long c, long d, long e, long f);

static __inline long __syscall0(long n)
{
    return tee_syscall(n, 0, 0, 0, 0, 0, 0);
}

static __inline long __syscall1(long n, long a)
{
    return tee_syscall(n, a, 0, 0, 0, 0, 0);
}

static __inline long __syscall2(long n, long a, long b)
{
    return tee_syscall(n, a, b, 0, 0, 0, 0);
}

static __inline long __syscall3(long n, long a, long b, long c)
{
    return tee_syscall(n, a, b, c, 0, 0, 0);
}

static __inline long __syscall4(long n, long a, long b, long c, long d)
{
    return tee_syscall(n, a, b, c, d, 0, 0);
}

static __inline long __syscall5(long n, long a, long b, long c, long d, long e)
{
    return tee_syscall(n, a, b, c, d, e, 0);
}

static __inline long __syscall6(long n, long a, long b, long c, long d, long e, long f)
{
    return tee_syscall(n, a, b, c, d, e, f);
}
