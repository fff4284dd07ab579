# SPDX-License-Identifier: Apache-2.0
"""Fuzz the leaves: ENCLU with any registers and memory, ENCLS with any operands, in any order."""

import contextlib
import sys
from dataclasses import dataclass, replace
from typing import Any

import atheris

with atheris.instrument_imports():
    from ensconce import _core
    from ensconce.crypto import generate_signing_key, rsa3072_quotients, rsa3072_sign
    from ensconce.errors import Fault
    from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
    from ensconce.isa.secinfo import SecInfo, SecInfoFlags
    from ensconce.isa.secs import Secs
    from ensconce.isa.sigstruct import SigStruct
    from ensconce.isa.tcs import Tcs
    from ensconce.machine import encls_build, encls_debug, encls_dynamic, encls_paging
    from ensconce.machine.encls_init import einit
    from ensconce.machine.identity import Identity
    from ensconce.machine.processor import Processor
    from ensconce.machine.secs_page import SecsPage

PAGE, SIZE = 4096, 16 * 4096
CPU = Processor(Identity.generate(), epc_size=32 * PAGE)
KEY = generate_signing_key()
BASE = _core.reserve(SIZE)
FLAGS = AttributeFlags.MODE64BIT | AttributeFlags.DEBUG | AttributeFlags.PROVISIONKEY


@dataclass
class Registers:
    rax: int
    rbx: int
    rcx: int
    rdx: int
    rflags: int = 0
    rip: int = 0
    tcs: int = BASE


def build() -> SecsPage:
    """Return an initialised enclave: a TCS, two SSA frames, data."""
    secs = encls_build.ecreate(
        CPU,
        Secs(size=SIZE, base_addr=BASE, attributes=Attributes(FLAGS, Xfrm.LEGACY)),
        SecInfo(),
    )
    secs.translate(0, SIZE // PAGE, 7)
    tcs = bytes(Tcs(ossa=PAGE, nssa=2))
    encls_build.eadd(CPU, secs, BASE, SecInfo(SecInfoFlags(0x100)), tcs)
    for page in range(1, 8):
        encls_build.eadd(CPU, secs, BASE + page * PAGE, SecInfo(SecInfoFlags(0x203)), bytes(PAGE))
    modulus = KEY.public_key().public_numbers().n
    sigstruct = SigStruct(
        modulus=modulus.to_bytes(384, "little"), enclave_hash=secs.measurement.digest()
    )
    signature = rsa3072_sign(KEY, sigstruct.signed_bytes())
    q1, q2 = rsa3072_quotients(modulus, int.from_bytes(signature, "big"))
    parts = {"signature": signature[::-1], "q1": q1, "q2": q2}
    CPU.launch_hash = sigstruct.mr_signer
    made = {
        name: part if isinstance(part, bytes) else part.to_bytes(384, "little")
        for name, part in parts.items()
    }
    einit(CPU, secs, replace(sigstruct, **made))
    return secs


def address(provider: Any) -> int:
    """Return an address in the enclave, mostly."""
    if provider.ConsumeIntInRange(0, 7):
        return BASE + int(provider.ConsumeIntInRange(0, 17 * 16)) * 256
    return int(provider.ConsumeUInt(8))


def user(secs: SecsPage, provider: Any) -> None:
    """Write some enclave memory and run an ENCLU leaf."""
    at = int(provider.ConsumeIntInRange(3, 7)) * PAGE
    if secs.mapping.effective.get(at // PAGE) == 3:
        content = provider.ConsumeBytes(512)
        secs.alias[at : at + len(content)] = content
    leaf = int(provider.ConsumeIntInRange(0, 10))
    registers = Registers(leaf, *(address(provider) for _ in range(3)))
    CPU.user_leaf(secs, registers)  # type: ignore[arg-type]  # stands in for Frame


def system(secs: SecsPage, provider: Any, evicted: list[Any]) -> None:
    """Run an ENCLS leaf."""
    where, secinfo = address(provider), SecInfo(SecInfoFlags(int(provider.ConsumeUInt(4))))
    leaves = [
        lambda: encls_dynamic.eaug(CPU, secs, where, int(provider.ConsumeIntInRange(0, 3))),
        lambda: encls_dynamic.emodpr(CPU, secs, secinfo, where),
        lambda: encls_dynamic.emodt(CPU, secs, secinfo, where),
        lambda: encls_paging.eblock(CPU, secs, where),
        lambda: encls_paging.etrack(CPU, secs),
        lambda: evicted.append(encls_paging.ewb(CPU, secs, where, evicted[0], len(evicted))),
        lambda: encls_paging.eldu(
            CPU,
            secs,
            evicted[int(provider.ConsumeIntInRange(1, max(1, len(evicted) - 1)))],
            evicted[0],
            int(provider.ConsumeIntInRange(-1, 520)),
        ),
        lambda: encls_debug.edbgrd(CPU, secs, where),
        lambda: encls_debug.edbgwr(CPU, secs, where, int(provider.ConsumeUInt(8))),
        lambda: encls_debug.erdinfo(CPU, secs, where),
        lambda: encls_build.eremove(CPU, secs, where),
        lambda: encls_build.eextend(CPU, secs, where),
    ]
    provider.PickValueInList(leaves)()


def one_input(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    secs = build()
    evicted: list[Any] = [encls_paging.epa(CPU)]
    try:
        while provider.remaining_bytes():
            with contextlib.suppress(Fault, IndexError):
                if provider.ConsumeBool():
                    user(secs, provider)
                else:
                    system(secs, provider, evicted)
            assert CPU.epc.used == secs.resident + 2
    finally:
        encls_build.eremove_pages(CPU, secs)
        encls_build.eremove(CPU, secs, None)
        encls_paging.eremove_va(CPU, evicted[0])
        secs.close()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
