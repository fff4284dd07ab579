/* SPDX-License-Identifier: Apache-2.0 */
/* Types of the elliptic-curve functions and of the keys that key exchanges derive. */
#ifndef SGX_ECP_TYPES_H
#define SGX_ECP_TYPES_H

#include <stdint.h>

#include "sgx_tcrypto.h"

#ifndef SGX_FEBITSIZE
#define SGX_FEBITSIZE 256
#endif

/* A curve's parameters, little endian. */
typedef struct _ecc_param_t {
    uint32_t eccP[SGX_NISTP_ECP256_KEY_SIZE];    /* the field's prime */
    uint32_t eccA[SGX_NISTP_ECP256_KEY_SIZE];    /* y^2 = x^3 + ax + b */
    uint32_t eccB[SGX_NISTP_ECP256_KEY_SIZE];
    uint32_t eccG[2][SGX_NISTP_ECP256_KEY_SIZE]; /* the base point */
    uint32_t eccR[SGX_NISTP_ECP256_KEY_SIZE];    /* its order */
} sgx_ecc_param_t;

typedef uint8_t sgx_ec_key_128bit_t[SGX_CMAC_KEY_SIZE];

#endif
