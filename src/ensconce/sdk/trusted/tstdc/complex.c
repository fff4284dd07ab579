/* SPDX-License-Identifier: Apache-2.0 */
/* Logarithms to base 10 of complex numbers, which the development model's complex.h has. */
#include <complex.h>

#define LOG10_E 0.43429448190325182765112891891660508L

double complex clog10(double complex z)
{
    return clog(z) * (double)LOG10_E;
}

float complex clog10f(float complex z)
{
    return clogf(z) * (float)LOG10_E;
}

long double complex clog10l(long double complex z)
{
    return clogl(z) * LOG10_E;
}
