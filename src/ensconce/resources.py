# SPDX-License-Identifier: Apache-2.0
"""The names by which containers ask for enclave memory, on a cluster and on one machine."""

from enum import StrEnum

__all__ = ["EPC_UNITS", "MIB", "Resource"]

MIB = 1 << 20


class Resource(StrEnum):
    """Extended resources that a container asks for in its limits."""

    EPC_ALIBABA = "alibabacloud.com/sgx_epc_MiB"  # MiB
    EPC_INTEL = "sgx.intel.com/epc"  # bytes
    EPC_AZURE = "kubernetes.azure.com/sgx_epc_mem_in_MiB"  # MiB; AKS's before it took Intel's
    EPC_OPENENCLAVE = "openenclave.io/sgx_epc_MiB"  # MiB; older still
    ENCLAVE = "sgx.intel.com/enclave"  # one for each container that runs enclaves
    PROVISION = "sgx.intel.com/provision"  # the right to read platform-wide keys
    QE = "sgx.intel.com/qe"
    REGISTRATION = "sgx.intel.com/registration"


EPC_UNITS = {
    Resource.EPC_ALIBABA: MIB,
    Resource.EPC_AZURE: MIB,
    Resource.EPC_OPENENCLAVE: MIB,
    Resource.EPC_INTEL: 1,
}
