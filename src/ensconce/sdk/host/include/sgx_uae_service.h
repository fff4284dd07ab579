/* SPDX-License-Identifier: Apache-2.0 */
/* The platform's services for hosts, all of them. */
#ifndef SGX_UAE_SERVICE_H
#define SGX_UAE_SERVICE_H

#include "sgx_uae_epid.h"
#include "sgx_uae_launch.h"
#include "sgx_uae_quote_ex.h"

#endif
