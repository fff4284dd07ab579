/* SPDX-License-Identifier: Apache-2.0 */
/* How a host names an enclave. */
#ifndef SGX_EID_H
#define SGX_EID_H

#include <stdint.h>

typedef uint64_t sgx_enclave_id_t;

#endif
