/* SPDX-License-Identifier: Apache-2.0 */
/* The architecture's structures in one include. */
#ifndef SGX_H
#define SGX_H

#include "sgx_error.h"
#include "sgx_attributes.h"
#include "sgx_key.h"
#include "sgx_report.h"

#endif
