/* SPDX-License-Identifier: Apache-2.0 */
/* Key policies by group. */
#ifndef TSERVICE_H
#define TSERVICE_H

#include "sgx_key.h"

/* Key separation and sharing: what KEYREQUEST may name when ATTRIBUTES.KSS is set. */
#define POLICY_KSS \
    (SGX_KEYPOLICY_CONFIGID | SGX_KEYPOLICY_ISVFAMILYID | SGX_KEYPOLICY_ISVEXTPRODID)
#define POLICY_IDENTITY (SGX_KEYPOLICY_MRENCLAVE | SGX_KEYPOLICY_MRSIGNER)
#define POLICY_ALL (POLICY_IDENTITY | SGX_KEYPOLICY_NOISVPRODID | POLICY_KSS)

/* Masks under which data is sealed: INIT and DEBUG count, so a debug enclave cannot open what a
   production enclave sealed; bits without effect on security do not. */
#define SEAL_FLAGS_MASK 0xFF0000000000000Bull
#define SEAL_MISC_MASK 0xF0000000u

#endif
