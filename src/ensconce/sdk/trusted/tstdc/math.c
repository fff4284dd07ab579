/* SPDX-License-Identifier: Apache-2.0 */
/* Older names of mathematical functions, which the development model's math.h has. */
#define _GNU_SOURCE
#include <math.h>

#define FOR(type, suffix)                                   \
    type gamma##suffix(type x)                              \
    {                                                       \
        return lgamma##suffix(x);                           \
    }                                                       \
    type gamma##suffix##_r(type x, int *sign)               \
    {                                                       \
        return lgamma##suffix##_r(x, sign);                 \
    }

FOR(double, )
FOR(float, f)
FOR(long double, l)

int isinff(float x)
{
    return isinf(x);
}

int isinfl(long double x)
{
    return isinf(x);
}

int isnanf(float x)
{
    return isnan(x);
}

int isnanl(long double x)
{
    return isnan(x);
}

int signbitf(float x)
{
    return signbit(x) != 0;
}

int signbitl(long double x)
{
    return signbit(x) != 0;
}

int finitel(long double x)
{
    return isfinite(x);
}

long double dreml(long double x, long double y)
{
    return remainderl(x, y);
}

long double significandl(long double x)
{
    return x == 0 || !isfinite(x) ? x : scalbnl(x, -ilogbl(x));
}
