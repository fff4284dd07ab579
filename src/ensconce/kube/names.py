# SPDX-License-Identifier: Apache-2.0
"""Every name that workloads, operators and other tools meet on a cluster, in one place.

The names of others (Alibaba's and Intel's device plugins, AKS, NFD) are what manifests in use say;
our own are under `ensconce.dev`.
"""

from enum import StrEnum

from ensconce.resources import Resource

__all__ = [
    "AESM_FOLDER",
    "AESM_SOCKET",
    "DOMAIN",
    "EMULATED_ALLOWED_LABEL",
    "EMULATED_TAINT",
    "EPC_ANNOTATION",
    "FIELD_MANAGER",
    "HOST_LIBRARIES",
    "NAMESPACE",
    "NFD_SGX_LABEL",
    "NODE_NAMESPACE",
    "PLATFORM_FOLDER",
    "PLATFORM_LABEL",
    "QUOTE_PROVIDER_ANNOTATION",
    "SGX_CAPABLE_LABEL",
    "STATE_FOLDER",
    "TEE_CATEGORY_LABEL",
    "Condition",
    "Platform",
    "Resource",
    "TeeCategory",
]

DOMAIN = "ensconce.dev"
NAMESPACE = "ensconce-system"  # Pod Security `restricted`: webhook and PCCS
NODE_NAMESPACE = "ensconce-node"  # `privileged`: what shares folders with the node: agent, AESM
FIELD_MANAGER = "ensconce"


class Platform(StrEnum):
    """What a node's enclaves run on: the value of `PLATFORM_LABEL`."""

    SGX = "sgx"
    EMULATED = "emulated"
    NONE = "none"


class TeeCategory(StrEnum):
    """Alibaba's kinds of SGX hardware: the value of `TEE_CATEGORY_LABEL`."""

    SGX1 = "intel-sgx1"
    SGX2 = "intel-sgx2"


class Condition(StrEnum):
    """Conditions that the node agent keeps in its node's status."""

    READY = "SgxReady"  # enclaves can run here
    EPC_ENFORCED = "SgxEpcEnforced"  # a container is held to the EPC it asked for; reason: the rung
    ATTESTATION_READY = "SgxAttestationReady"  # quotes can be had here


PLATFORM_LABEL = f"{DOMAIN}/platform"
TEE_CATEGORY_LABEL = "alibabacloud.com/tee-hardware-category"
SGX_CAPABLE_LABEL = "sgx.intel.com/capable"
NFD_SGX_LABEL = "intel.feature.node.kubernetes.io/sgx"

# An emulated node protects nothing. It is tainted `ensconce.dev/emulated-sgx=true:NoSchedule`; the
# webhook adds the toleration to the SGX pods of namespaces that carry the label with `true`.
EMULATED_TAINT = f"{DOMAIN}/emulated-sgx"
EMULATED_ALLOWED_LABEL = f"{DOMAIN}/allow-emulated"

EPC_ANNOTATION = "sgx.intel.com/epc"  # on a pod: the sum of its containers' EPC
QUOTE_PROVIDER_ANNOTATION = "sgx.intel.com/quote-provider"  # on a pod: a container, or `aesmd`

AESM_FOLDER = "/var/run/aesmd"
AESM_SOCKET = f"{AESM_FOLDER}/aesm.socket"
STATE_FOLDER = "/var/lib/ensconce"  # on the host: identity of an emulated platform, installed files
PLATFORM_FOLDER = "/run/ensconce"  # on the host: the emulated platform's sockets
HOST_LIBRARIES = "/opt/ensconce/lib"  # in a container on an emulated node: libsgx_urts.so, …
