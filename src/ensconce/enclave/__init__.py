# SPDX-License-Identifier: Apache-2.0
"""Load and run an enclave from Python, on the kernel's SGX driver or on the emulated processor."""

from ensconce.enclave.device import Device, KernelDevice, default_device, emulated_device
from ensconce.enclave.enclave import Enclave, load
from ensconce.enclave.memory import Untrusted, pinned
from ensconce.enclave.pool import ThreadPolicy
from ensconce.enclave.status import Status, describe
from ensconce.enclave.system import Allowance

__all__ = [
    "Allowance",
    "Device",
    "Enclave",
    "KernelDevice",
    "Status",
    "ThreadPolicy",
    "Untrusted",
    "default_device",
    "describe",
    "emulated_device",
    "load",
    "pinned",
]
