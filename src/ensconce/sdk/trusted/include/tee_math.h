/* SPDX-License-Identifier: Apache-2.0 */
/* What math.h has in this development model beside the standard's functions. */
#ifndef TEE_MATH_H
#define TEE_MATH_H

#ifdef __cplusplus
extern "C" {
#endif

/* lgamma, under its older names. */
double gamma(double);
float gammaf(float);
long double gammal(long double);
double gamma_r(double, int *);
float gammaf_r(float, int *);
long double gammal_r(long double, int *);

/* What isinf and its like are, for one type. */
int isinff(float);
int isinfl(long double);
int isnanf(float);
int isnanl(long double);
int signbitf(float);
int signbitl(long double);
int finitel(long double);

long double dreml(long double, long double);
long double significandl(long double);

#ifdef __cplusplus
}
#endif

#endif
