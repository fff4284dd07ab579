# SPDX-License-Identifier: Apache-2.0
"""Fuzz the driver model: ioctls, mappings and page faults with any arguments, in any order."""

import contextlib
import ctypes
import mmap
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import EnsconceError
    from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
    from ensconce.isa.secs import Secs
    from ensconce.machine import uapi
    from ensconce.machine.driver import DriverModel
    from ensconce.machine.identity import Identity
    from ensconce.machine.processor import Processor

PAGE, SIZE = 4096, 64 * 4096
CPU = Processor(Identity.generate(), epc_size=24 * PAGE)
MEMORY = mmap.mmap(-1, 16 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
ADDRESS = ctypes.addressof(ctypes.c_char.from_buffer(MEMORY))
REQUESTS = {
    uapi.CREATE: 1,
    uapi.ADD_PAGES: 6,
    uapi.INIT: 1,
    uapi.PROVISION: 1,
    uapi.RESTRICT_PERMISSIONS: 5,
    uapi.MODIFY_TYPES: 5,
    uapi.REMOVE_PAGES: 3,
    0: 1,
}


def word(provider: "atheris.FuzzedDataProvider") -> int:
    """Return a number that is often of use: small, a page of the enclave, or any."""
    kind = provider.ConsumeIntInRange(0, 4)
    if kind == 0:
        return int(provider.ConsumeIntInRange(0, 8))
    if kind == 1:
        return int(provider.ConsumeIntInRange(0, 70)) * PAGE
    if kind == 2:
        return ADDRESS + int(provider.ConsumeIntInRange(0, 20)) * PAGE
    if kind == 3:
        return ADDRESS + int(provider.ConsumeIntInRange(0, 16 * PAGE))
    return int(provider.ConsumeUInt(8))


def act(device: DriverModel, base: int, provider: "atheris.FuzzedDataProvider") -> None:
    """Do one thing to the device."""
    what = provider.ConsumeIntInRange(0, 5)
    if what == 0:
        MEMORY[: SIZE // 8] = provider.ConsumeBytes(SIZE // 8).ljust(SIZE // 8, b"\0")
    elif what == 1:
        number = provider.PickValueInList(list(REQUESTS))
        words = [word(provider).to_bytes(8, "little") for _ in range(REQUESTS[number])]
        device.ioctl(number, bytearray(b"".join(words)))
    elif what == 2:
        device.mmap(base + word(provider) % (2 * SIZE), word(provider), word(provider))
    elif what == 3:
        device.mprotect(base + word(provider) % (2 * SIZE), word(provider), word(provider))
    elif what == 4:
        device.munmap(base + word(provider) % (2 * SIZE), word(provider))
    elif device.enclave is not None:
        device.enclave.page_fault(base + word(provider) % (2 * SIZE), word(provider), 2)
        device.debug_read(base + word(provider) % (2 * SIZE), word(provider) % 64)


def one_input(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    device = DriverModel(CPU, provision=True)
    base = device.reserve(SIZE)
    attributes = Attributes(AttributeFlags.MODE64BIT | AttributeFlags.DEBUG, Xfrm.LEGACY)
    MEMORY[:PAGE] = bytes(Secs(size=SIZE, base_addr=base, attributes=attributes))
    device.ioctl(uapi.CREATE, bytearray(ADDRESS.to_bytes(8, "little")))
    while provider.remaining_bytes():
        with contextlib.suppress(EnsconceError, OSError):
            act(device, base, provider)
    assert CPU.epc.used <= CPU.epc.pages
    device.close()
    assert CPU.epc.used == 0


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
