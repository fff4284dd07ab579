# SPDX-License-Identifier: Apache-2.0
"""The SGX extension of a PCK certificate (Intel SGX PCK Certificate and CRL Profile, 1.5).

It says what the certified platform is: its PPID, TCB components, PCESVN, PCE-ID and FMSPC.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from ensconce.dcap import der
from ensconce.errors import FormatError

__all__ = ["COMPONENTS", "SGX_EXTENSION", "PckExtension", "SgxType"]

SGX_EXTENSION = "1.2.840.113741.1.13.1"
"""The extension's OID; those of its entries have one more number, 1 to 7, the TCB's two more."""

COMPONENTS = 16
_ROOT = der.encode_oid(SGX_EXTENSION)
_PPID, _TCB, _PCE_ID, _FMSPC, _SGX_TYPE, _INSTANCE, _CONFIGURATION = range(1, 8)
_PCESVN, _CPUSVN = 17, 18
_DYNAMIC_PLATFORM, _CACHED_KEYS, _SMT_ENABLED = 1, 2, 3
_MANDATORY = (_PPID, _TCB, _PCE_ID, _FMSPC, _SGX_TYPE)
_SOURCE = "the PCK certificate's SGX extension"


class SgxType(IntEnum):
    """How the platform's memory is protected."""

    STANDARD = 0
    SCALABLE = 1
    SCALABLE_WITH_INTEGRITY = 2


@dataclass(frozen=True, slots=True)
class PckExtension:
    """What a PCK certificate says of its platform.

    `components` are the 16 SVNs that TCB levels are compared with. The last four are in
    certificates of the Platform CA alone, None elsewhere.
    """

    ppid: bytes
    components: tuple[int, ...]
    pce_svn: int
    cpu_svn: bytes
    pce_id: bytes
    fmspc: bytes
    sgx_type: SgxType
    platform_instance_id: bytes | None = None
    dynamic_platform: bool | None = None
    cached_keys: bool | None = None
    smt_enabled: bool | None = None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the extension held in its DER value; FormatError if it is not as profiled."""
        entries = _entries(der.only_child(data, der.SEQUENCE, _SOURCE), _ROOT)
        for number in _MANDATORY:
            if number not in entries:
                raise _fault(f"lacks entry {number}")
        if set(entries) - set(range(_PPID, _CONFIGURATION + 1)):
            raise _fault(f"has the unknown entry {max(entries)}")
        tcb = _entries(_contents(entries[_TCB], der.SEQUENCE), _arc(_TCB))
        if set(tcb) != set(range(1, _CPUSVN + 1)):
            raise _fault("has not just 16 components, PCESVN and CPUSVN")
        sgx_type = _number(entries[_SGX_TYPE], 2, der.ENUMERATED)
        return cls(
            _octets(entries[_PPID], 16),
            tuple(_number(tcb[number], 255) for number in range(1, COMPONENTS + 1)),
            _number(tcb[_PCESVN], 0xFFFF),
            _octets(tcb[_CPUSVN], 16),
            _octets(entries[_PCE_ID], 2),
            _octets(entries[_FMSPC], 6),
            SgxType(sgx_type),
            _octets(entries[_INSTANCE], 16) if _INSTANCE in entries else None,
            *_configuration(entries.get(_CONFIGURATION)),
        )

    def __bytes__(self) -> bytes:
        tcb = [
            _entry(_arc(_TCB, n), der.encode_integer(svn))
            for n, svn in enumerate(self.components, 1)
        ]
        tcb.append(_entry(_arc(_TCB, _PCESVN), der.encode_integer(self.pce_svn)))
        tcb.append(_entry(_arc(_TCB, _CPUSVN), der.encode(der.OCTET_STRING, self.cpu_svn)))
        entries = [
            _entry(_arc(_PPID), der.encode(der.OCTET_STRING, self.ppid)),
            _entry(_arc(_TCB), der.encode(der.SEQUENCE, b"".join(tcb))),
            _entry(_arc(_PCE_ID), der.encode(der.OCTET_STRING, self.pce_id)),
            _entry(_arc(_FMSPC), der.encode(der.OCTET_STRING, self.fmspc)),
            _entry(_arc(_SGX_TYPE), der.encode_integer(self.sgx_type, der.ENUMERATED)),
        ]
        if self.platform_instance_id is not None:
            instance = der.encode(der.OCTET_STRING, self.platform_instance_id)
            entries.append(_entry(_arc(_INSTANCE), instance))
        flags = (self.dynamic_platform, self.cached_keys, self.smt_enabled)
        settings = [
            _entry(
                _arc(_CONFIGURATION, number), der.encode(der.BOOLEAN, b"\xff" if flag else b"\0")
            )
            for number, flag in enumerate(flags, 1)
            if flag is not None
        ]
        if settings:
            entries.append(
                _entry(_arc(_CONFIGURATION), der.encode(der.SEQUENCE, b"".join(settings)))
            )
        return der.encode(der.SEQUENCE, b"".join(entries))


def _arc(*numbers: int) -> bytes:
    """Return the OID of an entry, encoded."""
    return _ROOT + bytes(numbers)


def _entry(oid: bytes, value: bytes) -> bytes:
    """Return the sequence of an encoded OID and an encoded value."""
    return der.encode(der.SEQUENCE, der.encode(der.OBJECT_IDENTIFIER, oid) + value)


def _entries(contents: bytes, parent: bytes) -> dict[int, tuple[int, bytes]]:
    """Return the values of a list of (OID, value) by the one number after the parent's OID."""
    entries: dict[int, tuple[int, bytes]] = {}
    for tag, entry in der.children(contents, _SOURCE):
        parts = der.children(entry, _SOURCE) if tag == der.SEQUENCE else []
        if len(parts) != 2 or parts[0][0] != der.OBJECT_IDENTIFIER:
            raise _fault("has an entry that is not an OID with a value")
        oid = parts[0][1]
        if oid[:-1] != parent or oid[-1] & 0x80:
            raise _fault(f"has an entry with the foreign OID {oid.hex()}")
        if oid[-1] in entries:
            raise _fault(f"has entry {oid[-1]} twice")
        entries[oid[-1]] = parts[1]
    return entries


def _contents(value: tuple[int, bytes], tag: int) -> bytes:
    """Return a value's contents if it has the tag."""
    if value[0] != tag:
        raise _fault(f"has a value of tag {value[0]:#x} where {tag:#x} belongs")
    return value[1]


def _octets(value: tuple[int, bytes], size: int) -> bytes:
    """Return an OCTET STRING of a size."""
    contents = _contents(value, der.OCTET_STRING)
    if len(contents) != size:
        raise _fault(f"has a string of {len(contents)} bytes where {size} belong")
    return contents


def _number(value: tuple[int, bytes], largest: int, tag: int = der.INTEGER) -> int:
    """Return a number from 0 to the largest that is allowed."""
    number = der.integer(_contents(value, tag), _SOURCE)
    if number > largest:
        raise _fault(f"has the number {number}, more than {largest}")
    return number


def _configuration(value: tuple[int, bytes] | None) -> tuple[bool | None, ...]:
    """Return the three settings of a multi-package platform, each None if it is not there."""
    if value is None:
        return (None, None, None)
    settings = _entries(_contents(value, der.SEQUENCE), _arc(_CONFIGURATION))
    known = (_DYNAMIC_PLATFORM, _CACHED_KEYS, _SMT_ENABLED)
    if set(settings) - set(known):
        raise _fault(f"has the unknown setting {max(settings)}")
    return tuple(
        der.boolean(_contents(settings[number], der.BOOLEAN), _SOURCE)
        if number in settings
        else None
        for number in known
    )


def _fault(what: str) -> FormatError:
    """Return the error of an extension that is not as its profile says."""
    return FormatError(f"{_SOURCE} {what}; it is no PCK certificate's", source="PCK certificate")
