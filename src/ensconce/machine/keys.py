# SPDX-License-Identifier: Apache-2.0
"""Key derivation: fuses, CPUSVN and TMP_KEYDEPENDENCIES to the five keys (SDM vol. 3D, EGETKEY).

How a CPUSVN enters a key: each of its sixteen components has a chain of hashes that starts at the
fuses and belongs to SVN 255; the link for SVN n is the hash of the one for n + 1. A processor
is given the links of its own CPUSVN, as microcode loads a key that fits its own revision. From
these it can walk to every lower CPUSVN and to none higher, as on hardware.
"""

import hashlib
import struct
from threading import Lock

from ensconce.crypto import aes_cmac
from ensconce.errors import Fault
from ensconce.isa.leaves import ErrorCode
from ensconce.machine.identity import Identity

__all__ = ["KeyHierarchy"]

_TOP_SVN = 255
_CACHED_LEVELS = 64

# HARDCODED_PKCS1_5_PADDING: what is above the digest in every signature that EINIT takes
_PADDING = (b"\0\1" + b"\xff" * 330 + bytes.fromhex("003031300d060960864801650304020105000420"))[
    ::-1
]

# TMP_KEYDEPENDENCIES begins with: name, policy, product id, SVN, CONFIGSVN, CET attributes and
# mask, MISCSELECT and mask. What follows has fixed sizes, so the order makes it unambiguous.
_NUMBERS = struct.Struct("<HHHHHBBII")

_ZERO16 = bytes(16)
_ZERO32 = bytes(32)
_ZERO64 = bytes(64)


class KeyHierarchy:
    """The keys that a processor at one CPUSVN can derive; holds nothing of a higher CPUSVN."""

    def __init__(self, identity: Identity) -> None:
        self.cpu_svn = identity.cpu_svn
        self._owner_epoch = identity.owner_epoch
        self._seal_fuses = identity.seal_fuses
        self._links = tuple(
            _walk(_first_link(identity.provisioning_fuses, index), _TOP_SVN - svn)
            for index, svn in enumerate(identity.cpu_svn)
        )
        self._levels: dict[bytes, bytes] = {}
        self._lock = Lock()

    def beyond(self, cpu_svn: bytes) -> bool:
        """Return whether a CPUSVN is beyond this processor's in any component."""
        if cpu_svn == self.cpu_svn or cpu_svn in self._levels:
            return False
        return any(asked > current for asked, current in zip(cpu_svn, self.cpu_svn, strict=True))

    def level_key(self, cpu_svn: bytes) -> bytes:
        """Return the 16-byte key of a TCB level. Raises Fault INVALID_CPUSVN for a higher one."""
        key = self._levels.get(cpu_svn)
        if key is not None:
            return key
        if self.beyond(cpu_svn):
            raise Fault(ErrorCode.INVALID_CPUSVN, f"{cpu_svn.hex()} is beyond this processor's")
        digest = hashlib.sha256(b"ensconce level")
        for link, current, asked in zip(self._links, self.cpu_svn, cpu_svn, strict=True):
            digest.update(_walk(link, current - asked))
        key = digest.digest()[:16]
        with self._lock:
            if len(self._levels) >= _CACHED_LEVELS:
                self._levels.clear()
            self._levels[cpu_svn] = key
        return key

    def key(
        self,
        name: int,
        cpu_svn: bytes,
        *,
        attributes: bytes,
        attributes_mask: bytes = _ZERO16,
        owner: bool = True,
        seal: bool = True,
        policy: int = 0,
        isv_prod_id: int = 0,
        isv_svn: int = 0,
        config_svn: int = 0,
        cet_attributes: int = 0,
        cet_attributes_mask: int = 0,
        misc_select: int = 0,
        misc_mask: int = 0,
        mr_enclave: bytes = _ZERO32,
        mr_signer: bytes = _ZERO32,
        key_id: bytes = _ZERO32,
        isv_family_id: bytes = _ZERO16,
        isv_ext_prod_id: bytes = _ZERO16,
        config_id: bytes = _ZERO64,
    ) -> bytes:
        """Return a 16-byte key; the arguments are the manual's fields, and zero where it says 0.

        `owner` and `seal` say whether SGXOWNEREPOCH and SEAL_KEY_FUSES enter.
        Raises Fault INVALID_CPUSVN.
        """
        svns = (isv_prod_id, isv_svn, config_svn)
        cet = (cet_attributes, cet_attributes_mask)
        numbers = _NUMBERS.pack(name, policy, *svns, *cet, misc_select, misc_mask)
        owner_epoch = self._owner_epoch if owner else _ZERO16
        fuses = self._seal_fuses if seal else _ZERO16
        identity = mr_enclave + mr_signer + key_id + isv_family_id + isv_ext_prod_id + config_id
        dependencies = b"".join(
            (numbers, attributes, attributes_mask, cpu_svn, owner_epoch, fuses, identity, _PADDING)
        )
        return aes_cmac(self.level_key(cpu_svn), dependencies)


def _first_link(fuses: bytes, index: int) -> bytes:
    """Return the link of SVN 255 of one component's chain."""
    return hashlib.sha256(b"ensconce chain" + bytes((index,)) + fuses).digest()


def _walk(link: bytes, steps: int) -> bytes:
    """Return the link that is `steps` SVNs lower."""
    for _ in range(steps):
        link = hashlib.sha256(link).digest()
    return link
