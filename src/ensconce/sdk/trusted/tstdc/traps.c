/* SPDX-License-Identifier: Apache-2.0 */
/* Which floating-point exceptions are traps: the mask bits of the x87 control word and of MXCSR. */
#include <fenv.h>
#include <stdint.h>

#define MXCSR_MASKS 7 /* where they start */

static void set_traps(int traps)
{
    uint16_t control;
    uint32_t mxcsr;
    __asm__ __volatile__("fnstcw %0\n\tstmxcsr %1" : "=m"(control), "=m"(mxcsr));
    control = (uint16_t)((control | FE_ALL_EXCEPT) & ~traps);
    mxcsr = (mxcsr | FE_ALL_EXCEPT << MXCSR_MASKS) & ~((uint32_t)traps << MXCSR_MASKS);
    __asm__ __volatile__("fldcw %0\n\tldmxcsr %1" ::"m"(control), "m"(mxcsr));
}

int fegetexcept(void)
{
    uint16_t control;
    __asm__ __volatile__("fnstcw %0" : "=m"(control));
    return ~control & FE_ALL_EXCEPT;
}

int feenableexcept(int traps)
{
    int before = fegetexcept();
    set_traps(before | (traps & FE_ALL_EXCEPT));
    return before;
}

int fedisableexcept(int traps)
{
    int before = fegetexcept();
    set_traps(before & ~traps);
    return before;
}
