# SPDX-License-Identifier: Apache-2.0
"""Who the quoting enclave (QE) and the provisioning certification enclave (PCE) are here.

On the emulated platform both are roles of the platform, not enclaves. Their measurements are
hashes of words, so no enclave file can have them: an MRENCLAVE would have to be found for a
given hash, and an MRSIGNER is the hash of a 384-byte modulus.
"""

import hashlib

from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.report import TargetInfo

__all__ = [
    "PCE_MR_SIGNER",
    "PCE_SVN",
    "QE_ATTRIBUTES",
    "QE_MR_ENCLAVE",
    "QE_MR_SIGNER",
    "QE_PROD_ID",
    "QE_SVN",
    "QE_TARGET",
]

_FLAGS = AttributeFlags.INIT | AttributeFlags.MODE64BIT | AttributeFlags.PROVISIONKEY

QE_MR_ENCLAVE = hashlib.sha256(b"ensconce emulated quoting role").digest()
QE_MR_SIGNER = hashlib.sha256(b"ensconce emulated quoting role's signer").digest()
QE_ATTRIBUTES = Attributes(_FLAGS, Xfrm.LEGACY)
QE_PROD_ID = 1
QE_SVN = 8
PCE_MR_SIGNER = hashlib.sha256(b"ensconce emulated provisioning role's signer").digest()
PCE_SVN = 13

QE_TARGET = TargetInfo(measurement=QE_MR_ENCLAVE, attributes=QE_ATTRIBUTES)
"""What an enclave that wants a quote makes its REPORT for (sgx_qe_get_target_info)."""
