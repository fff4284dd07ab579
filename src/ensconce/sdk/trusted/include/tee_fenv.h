/* SPDX-License-Identifier: Apache-2.0 */
/* What fenv.h has in this development model beside the standard's functions. */
#ifndef TEE_FENV_H
#define TEE_FENV_H

#ifdef __cplusplus
extern "C" {
#endif

/* Make floating-point exceptions trap, or no longer; the answer is what trapped before. */
int feenableexcept(int);
int fedisableexcept(int);
int fegetexcept(void);

#ifdef __cplusplus
}
#endif

#endif
