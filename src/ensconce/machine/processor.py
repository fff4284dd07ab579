# SPDX-License-Identifier: Apache-2.0
"""The emulated SGX processor: what its leaf functions share, and how ENCLU reaches them.

The leaves themselves are functions in `encls_build`, `encls_dynamic`, `encls_paging`,
`encls_debug` (ENCLS: system software calls them) and in `enclu`, `enclu_dynamic` (ENCLU: the
core's leaf callback calls them). Each takes the processor first and follows the order of the
manual's pseudo code. What the manual answers with a code in RAX or an exception is a `Fault`.

Operands: where the manual takes the address of an EPC page, a leaf takes the SECS page and the
linear address, or a `VaPage`; where it takes the address of a structure, the structure.

Locks: `lock` guards the EPC, every EPCM, the VA slots and the core's TCSs. Nobody waits for a
thread to leave an enclave, or hashes, while holding it. A thread of an enclave takes it inside
the leaf and fault callbacks only, when it is outside the enclave already.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from threading import RLock

from ensconce import _core
from ensconce._core import Frame
from ensconce.errors import ConfigError, Fault
from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from ensconce.isa.cpuid import CpuidFeatures, EpcSection, SgxCpuid
from ensconce.isa.leaves import Enclu
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.isa.ssa import Vector
from ensconce.machine.enclu import edeccssa, egetkey, ereport
from ensconce.machine.enclu_dynamic import eaccept, eacceptcopy, emodpe
from ensconce.machine.epc import Epc, VaPage
from ensconce.machine.identity import Identity
from ensconce.machine.keys import KeyHierarchy
from ensconce.machine.secs_page import SecsPage

__all__ = ["Processor", "default_epc_size"]

_MOST_EPC = 4 << 30

_EPC_BASE = 0x70000000
_ATTRIBUTES = (
    AttributeFlags.DEBUG
    | AttributeFlags.MODE64BIT
    | AttributeFlags.PROVISIONKEY
    | AttributeFlags.EINITTOKENKEY
    | AttributeFlags.KSS
    | AttributeFlags.AEXNOTIFY
)
_FEATURES = CpuidFeatures.SGX1 | CpuidFeatures.SGX2 | CpuidFeatures.EDECCSSA
_XFRM = Xfrm.LEGACY | Xfrm.AVX | Xfrm.AVX512 | Xfrm.PKRU | Xfrm.TILECFG | Xfrm.TILEDATA
_NO_FAULT_INSIDE = (int(Vector.GP), 0, 0)

_logger = logging.getLogger(__name__)

UserLeaf = Callable[["Processor", SecsPage, Frame], None]


class Processor:
    """One emulated processor package: an identity, an EPC of a stated size, the enclaves in it.

    `epc_size` is in bytes, a multiple of 4 KiB (None: `default_epc_size`); `sections` gives it in
    parts instead, as NUMA nodes have it. Memory is used as enclaves touch it. Without `evicts` the
    EPC is a limit: what is in it stays, and no more fits.
    `launch_hash` is IA32_SGXLEPUBKEYHASH (32 bytes), which system software may write, as with
    flexible launch control; it starts as Intel's would on a machine without FLC: a value that no
    key of ours has.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        epc_size: int | None = None,
        sections: tuple[EpcSection, ...] = (),
        launch_hash: bytes = bytes(32),
        xfrm: int | None = None,
        evicts: bool = True,
    ) -> None:
        if not sections:
            size = default_epc_size() if epc_size is None else epc_size
            sections = (EpcSection(_EPC_BASE, size),)
        for section in sections:
            if section.size < PAGE_SIZE or section.size % PAGE_SIZE:
                raise ConfigError(
                    f"an EPC of {section.size} bytes can't be; give a multiple of {PAGE_SIZE} bytes"
                )
        self.lock = RLock()
        self.platform_id = identity.platform_id
        self.keys = KeyHierarchy(identity)
        self.epc = Epc(sections)
        self.evicts = evicts
        self.launch_hash = launch_hash
        self.report_key_id = os.urandom(32)
        self.paging_key = os.urandom(16)
        self.enclaves: dict[int, SecsPage] = {}
        self.va_pages: set[VaPage] = set()
        self.system_software: dict[type, object] = {}
        supported = int(_XFRM) & _core.xcr0() if xfrm is None else xfrm
        self.cpuid = SgxCpuid(
            _FEATURES,
            MiscSelect.EXINFO,
            max_enclave_size_not64=31,
            max_enclave_size_64=47,
            attributes=Attributes(_ATTRIBUTES, Xfrm(supported)),
            sections=sections,
        )
        self._next_eid = 1
        self._next_version = 0

    @property
    def cpu_svn(self) -> bytes:
        """CR_CPUSVN, 16 bytes."""
        return self.keys.cpu_svn

    def next_eid(self) -> int:
        """Return CR_NEXT_EID and count it up."""
        eid = self._next_eid
        self._next_eid += 1
        return eid

    def next_version(self) -> int:
        """Return a version that no evicted page has had; its low three bits are zero."""
        self._next_version += 8
        return self._next_version

    def user_leaf(self, secs: SecsPage, frame: Frame) -> tuple[int, int, int] | None:
        """Run the ENCLU leaf in RAX for a thread inside an enclave; return the AEX it takes."""
        leaf = _USER_LEAVES.get(frame.rax & 0xFFFFFFFF)
        if leaf is None:
            return _NO_FAULT_INSIDE
        try:
            with self.lock:
                leaf(self, secs, frame)
        except Fault as fault:
            _logger.debug("event=enclu_fault eid=%d rip=%#x fault=%s", secs.eid, frame.rip, fault)
            return int(fault.code), fault.error_code, fault.address or 0
        return None

    def lose(self) -> None:
        """Go through a power transition that the EPC does not survive: S3, or a host's migration.

        Every enclave is lost, its threads leave by an AEX, and entering fails from then on.
        """
        with self.lock:
            lost = list(self.enclaves.values())
            self.enclaves.clear()
            for secs in lost:
                secs.valid = False
                secs.translate(0, secs.size // PAGE_SIZE, None)
                secs.put(0, secs.size // PAGE_SIZE, None)
            for page in self.va_pages:
                page.valid = False
            self.va_pages.clear()
            self.epc.give(self.epc.used)
            self.paging_key = os.urandom(16)
            self.report_key_id = os.urandom(32)
        for secs in lost:
            with contextlib.suppress(ValueError):  # closed meanwhile
                secs.core.kick()


def default_epc_size() -> int:
    """Return the EPC to emulate where nobody says: 4 GiB, or half of the machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(memory // 2 // PAGE_SIZE * PAGE_SIZE, _MOST_EPC)


_USER_LEAVES: dict[int, UserLeaf] = {
    Enclu.EREPORT: ereport,
    Enclu.EGETKEY: egetkey,
    Enclu.EACCEPT: eaccept,
    Enclu.EMODPE: emodpe,
    Enclu.EACCEPTCOPY: eacceptcopy,
    Enclu.EDECCSSA: edeccssa,
}
