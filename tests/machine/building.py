# SPDX-License-Identifier: Apache-2.0
"""Small enclaves for the tests: a SECS, a few pages, a SIGSTRUCT, and code that runs one leaf."""

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from ensconce import _core
from ensconce.crypto import rsa3072_quotients, rsa3072_sign
from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from ensconce.isa.record import Record
from ensconce.isa.secinfo import PageType, SecInfo, secinfo_flags
from ensconce.isa.secs import Secs
from ensconce.isa.sigstruct import SigStruct
from ensconce.isa.tcs import Tcs
from ensconce.machine import uapi
from ensconce.machine.driver import DriverModel
from ensconce.machine.encls_build import eadd, ecreate, eremove, eremove_pages
from ensconce.machine.encls_init import einit
from ensconce.machine.processor import Processor
from ensconce.machine.secs_page import SecsPage

PAGE = 4096
SIZE = 64 * PAGE
BASIC = AttributeFlags.MODE64BIT | AttributeFlags.DEBUG
CREATE_INFO = SecInfo(secinfo_flags(PageType.SECS))
RW = SecInfo(secinfo_flags(PageType.REG, 3))
R = SecInfo(secinfo_flags(PageType.REG, 1))
RX = SecInfo(secinfo_flags(PageType.REG, 5))
TCS = SecInfo(secinfo_flags(PageType.TCS))

# where the parts of a test enclave are, by page
CODE, TCS_AT, SSA, DATA, HEAP, FREE = 0, 1, 2, 4, 8, 32

# At entry RSI says what to do. 0: run the ENCLU leaf whose RAX, RBX, RCX, RDX lie at RDI, return
# RAX in RDI and the status flags in RDX; 1: read a byte at RDI into RDX; 2: write 0x5a to RDI;
# 3: call RDI; 4: count up at RDI until the word after it is not zero. Entered with CSSA > 0: RDX
# is 0x99. Then EEXIT to where EENTER said.
PROGRAM = bytes.fromhex(
    "4989ca85c0755683fe01742d83fe02742d83fe03742d83fe04742c4989fb498b03498b5b08498b4b10498b5318"
    "0f01d74889c79f0fb6d4eb190fb617eb14c6075aeb0fffd7eb0bf048ff0748837f080074f54c89d3b804000000"
    "0f01d7ba99000000ebee"
)
LEAF, PEEK, POKE, JUMP, SPIN = range(5)


def secs_for(base: int, **fields: object) -> Secs:
    attributes = Attributes(BASIC, Xfrm.LEGACY)
    return replace(
        Secs(
            size=SIZE,
            base_addr=base,
            ssa_frame_size=1,
            misc_select=MiscSelect.EXINFO,
            attributes=attributes,
        ),
        **fields,  # type: ignore[arg-type]  # a test's own fields, by name
    )


def tcs(ossa: int = SSA * PAGE, nssa: int = 2, **fields: int) -> Tcs:
    return replace(Tcs(ossa=ossa, nssa=nssa, oentry=CODE * PAGE), **fields)  # type: ignore[arg-type]


def signed(key: rsa.RSAPrivateKey, mr_enclave: bytes, **fields: object) -> SigStruct:
    """Return a SIGSTRUCT that demands nothing but the measurement, changed by `fields`."""
    modulus = key.public_key().public_numbers().n
    sigstruct = replace(
        SigStruct(modulus=modulus.to_bytes(384, "little"), enclave_hash=mr_enclave),
        **fields,  # type: ignore[arg-type]  # a test's own fields, by name
    )
    signature = rsa3072_sign(key, sigstruct.signed_bytes())
    q1, q2 = rsa3072_quotients(modulus, int.from_bytes(signature, "big"))
    return replace(
        sigstruct,
        signature=signature[::-1],
        q1=q1.to_bytes(384, "little"),
        q2=q2.to_bytes(384, "little"),
    )


@dataclass
class Registers:
    """Registers of an ENCLU, where no thread runs one."""

    rax: int = 0
    rbx: int = 0
    rcx: int = 0
    rdx: int = 0
    rflags: int = 0x8D5
    rip: int = 0
    tcs: int = 0


Parts = list[tuple[int, SecInfo, bytes]]


def basic_parts() -> Parts:
    """Return code, a TCS, two SSA frames and four pages of data."""
    return [
        (CODE, RX, PROGRAM.ljust(PAGE, b"\xcc")),
        (TCS_AT, TCS, bytes(tcs())),
        (SSA, RW, bytes(PAGE)),
        (SSA + 1, RW, bytes(PAGE)),
        *((DATA + index, RW, bytes(PAGE)) for index in range(4)),
    ]


@contextmanager
def bare(cpu: Processor, parts: Parts, **fields: object) -> Iterator[SecsPage]:
    """Build an enclave by leaves alone, everything mapped; not initialised."""
    base = _core.reserve(SIZE)
    secs = ecreate(cpu, secs_for(base, **fields), CREATE_INFO)
    try:
        secs.translate(0, SIZE // PAGE, 7)
        for page, secinfo, content in parts:
            eadd(cpu, secs, base + page * PAGE, secinfo, content)
        yield secs
    finally:
        eremove_pages(cpu, secs)
        eremove(cpu, secs, None)
        secs.close()
        _core.release(base, SIZE)


@contextmanager
def running(
    cpu: Processor, key: rsa.RSAPrivateKey, parts: Parts | None = None, **fields: object
) -> Iterator[SecsPage]:
    """Build and initialise an enclave by leaves alone."""
    with bare(cpu, basic_parts() if parts is None else parts, **fields) as secs:
        initialize(cpu, secs, key)
        yield secs


def initialize(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey, **fields: object
) -> SigStruct:
    sigstruct = signed(key, secs.measurement.digest(), **fields)
    cpu.launch_hash = sigstruct.mr_signer
    einit(cpu, secs, sigstruct)
    return sigstruct


class Memory:
    """Page-aligned memory of the process."""

    def __init__(self, size: int, flags: int = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) -> None:
        self._map = mmap.mmap(-1, size, flags=flags)
        anchor = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(anchor)
        self.size = size
        self.end = self.address + size
        del anchor

    def __setitem__(self, where: slice, value: bytes) -> None:
        self._map[where] = value

    def __getitem__(self, where: slice) -> bytes:
        return self._map[where]

    def forbid(self, offset: int) -> None:
        """Take access to everything from an offset on away."""
        libc = ctypes.CDLL(None, use_errno=True)
        length = ctypes.c_size_t(self.size - offset)
        assert libc.mprotect(ctypes.c_void_p(self.address + offset), length, 0) == 0

    def close(self) -> None:
        self._map.close()


class Loaded:
    """An enclave built through the driver, and a thread of it."""

    def __init__(self, device: DriverModel, base: int, entry: int = TCS_AT) -> None:
        self.device = device
        self.base = base
        self.entry = entry
        self.call = _core.Call(device.enter_address)
        self.memory = Memory(2 * PAGE)

    @property
    def secs(self) -> SecsPage:
        enclave = self.device.enclave
        assert enclave is not None
        return enclave

    def at(self, page: int) -> int:
        return self.base + page * PAGE

    def enter(self, what: int, rdi: int, function: int = 2, entry: int | None = None) -> int:
        """Enter by the TCS; return 0 for EEXIT, 1 for an exception."""
        page = self.entry if entry is None else entry
        return self.call.enter(function, self.at(page), rdi, what, 0)

    def leaf(self, rax: int, rbx: int = 0, rcx: int = 0, rdx: int = 0) -> int:
        """Run an ENCLU leaf inside; return RAX. An exception fails the test."""
        assert self.attempt(rax, rbx, rcx, rdx) == 0, (self.call.vector, hex(self.call.address))
        return self.call.rdi

    def attempt(self, rax: int, rbx: int = 0, rcx: int = 0, rdx: int = 0) -> int:
        """Run an ENCLU leaf inside; return 0, or 1 where it took an exception."""
        words = b"".join(word.to_bytes(8, "little") for word in (rax, rbx, rcx, rdx))
        self.memory[0:32] = words
        return self.enter(LEAF, self.memory.address)

    def close(self) -> None:
        self.memory.close()


def refuses(number: int) -> pytest.RaisesExc[OSError]:
    """Expect an OSError of that number."""
    return pytest.raises(OSError, match=rf"^\[Errno {number}\]")


def request(device: DriverModel, number: int, record: Record) -> Record:
    """Carry out an ioctl and return what it left of its argument."""
    argument = bytearray(bytes(record))
    device.ioctl(number, argument)
    return type(record).parse(argument)


def add(
    device: DriverModel,
    source: Memory,
    page: int,
    secinfo: SecInfo,
    content: bytes,
    *,
    measure: bool = True,
) -> None:
    """ADD_PAGES from a source whose last page holds the SECINFO."""
    source[: len(content)] = content
    source[source.size - 64 : source.size] = bytes(secinfo)
    argument = uapi.EnclaveAddPages(
        source.address, page * PAGE, len(content), source.end - 64, int(measure)
    )
    request(device, uapi.ADD_PAGES, argument)


def build(
    cpu: Processor,
    key: rsa.RSAPrivateKey,
    parts: Parts | None = None,
    *,
    provision: bool = False,
    heap: int = 0,
    **fields: object,
) -> Loaded:
    """Build, initialise and map an enclave through the driver, `heap` lazy pages at HEAP."""
    device = DriverModel(cpu, provision=provision)
    base = device.reserve(SIZE)
    source = Memory(8 * PAGE)
    try:
        source[0:PAGE] = bytes(secs_for(base, **fields))
        request(device, uapi.CREATE, uapi.EnclaveCreate(source.address))
        for page, secinfo, content in basic_parts() if parts is None else parts:
            add(device, source, page, secinfo, content)
        if heap:
            add_heap(device, source, heap)
        loaded = Loaded(device, base)
        sigstruct = signed(key, loaded.secs.measurement.digest())
        source[0 : SigStruct.SIZE] = bytes(sigstruct)
        request(device, uapi.INIT, uapi.EnclaveInit(source.address))
    finally:
        source.close()
    device.mmap(loaded.at(CODE), PAGE, 5)
    device.mmap(loaded.at(TCS_AT), (HEAP - TCS_AT + heap) * PAGE, 3)
    return loaded


def add_heap(device: DriverModel, source: Memory, count: int) -> None:
    """Add pages that are unmeasured and zero."""
    zeros = Memory(count * PAGE)
    source[source.size - 64 : source.size] = bytes(RW)
    argument = uapi.EnclaveAddPages(zeros.address, HEAP * PAGE, count * PAGE, source.end - 64)
    request(device, uapi.ADD_PAGES, argument)
    zeros.close()
