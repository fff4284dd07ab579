/* SPDX-License-Identifier: Apache-2.0 */
/* What complex.h has in this development model beside the standard's functions. */
#ifndef TEE_COMPLEX_H
#define TEE_COMPLEX_H

#ifdef __cplusplus
extern "C" {
#endif

double _Complex clog10(double _Complex);
float _Complex clog10f(float _Complex);
long double _Complex clog10l(long double _Complex);

#ifdef __cplusplus
}
#endif

#endif
