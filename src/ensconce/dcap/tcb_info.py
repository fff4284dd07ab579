# SPDX-License-Identifier: Apache-2.0
"""TCB info (versions 2 and 3) and enclave identities (1 and 2), as PCS answers them.

Source: Intel PCS API v3 and v4, "Get TCB Info" and "Get Quoting Enclave Identity".
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from ensconce.dcap.pck import COMPONENTS
from ensconce.dcap.quote import TeeType
from ensconce.dcap.signed_json import Fields, parse_object
from ensconce.dcap.verdict import TcbStatus
from ensconce.errors import FormatError

__all__ = ["IsvLevel", "QeIdentity", "TcbInfo", "TcbLevel", "TdxModuleIdentity"]

_U16, _U32 = 0xFFFF, 0xFFFFFFFF
_SOURCE = "TCB info"
_MODULE_ID = re.compile("TDX_([0-9A-F]{2})")
_STATUSES = [
    status.value
    for status in TcbStatus
    if status
    not in (TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED)
]
_ISV_STATUSES = [
    status.value for status in (TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED)
]


@dataclass(frozen=True, slots=True)
class TcbLevel:
    """A platform's TCB level: the least SVNs it takes, 16 components each, and what it is worth.

    `tdx_components` is empty in a TCB info for SGX.
    """

    sgx_components: tuple[int, ...]
    pce_svn: int
    tdx_components: tuple[int, ...]
    date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IsvLevel:
    """A level of an enclave or a TDX module: the least ISVSVN, and what it is worth."""

    isv_svn: int
    date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TdxModuleIdentity:
    """What a TDX module must be; version 0 is the module without versions or levels."""

    version: int
    mr_signer: bytes
    attributes: int
    attributes_mask: int
    levels: tuple[IsvLevel, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """A platform family's TCB levels, best first."""

    tee: TeeType
    version: int
    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pce_id: bytes
    tcb_evaluation_data_number: int
    levels: tuple[TcbLevel, ...]
    tdx_modules: tuple[TdxModuleIdentity, ...]

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return the TCB info in a JSON text."""
        fields = parse_object(text, _SOURCE)
        version = fields.number("version", _U32)
        if version not in (2, 3):
            fields.refuse("version", "2 or 3")
        tee = TeeType[fields.choice("id", ("SGX", "TDX"))] if version == 3 else TeeType.SGX
        if fields.number("tcbType", _U32) != 0:
            fields.refuse("tcbType", "0, the only type that can be compared")
        tdx = tee is TeeType.TDX
        levels = [_level(entry, version, tdx=tdx) for entry in fields.objects("tcbLevels")]
        if not levels:
            fields.refuse("tcbLevels", "a list of at least one level")
        # best first whatever the order in the text: the first level that fits is the answer
        levels.sort(
            key=lambda one: (one.sgx_components, one.pce_svn, one.tdx_components),
            reverse=True,
        )
        modules: tuple[TdxModuleIdentity, ...] = ()
        if tdx:
            modules = (_module_facts(fields.object("tdxModule"), 0, ()),)
        if tdx and "tdxModuleIdentities" in fields:
            modules += tuple(map(_module, fields.objects("tdxModuleIdentities")))
        return cls(
            tee,
            version,
            fields.time("issueDate"),
            fields.time("nextUpdate"),
            fields.octets("fmspc", 6),
            fields.octets("pceId", 2),
            fields.number("tcbEvaluationDataNumber", _U32),
            tuple(levels),
            modules,
        )


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """What a quoting enclave must be. Masks say which bits count; levels are best first.

    Version 1 has no evaluation number (None), no id (it is for SGX) and one ISVSVN.
    """

    tee: TeeType
    version: int
    issue_date: datetime
    next_update: datetime
    tcb_evaluation_data_number: int | None
    misc_select: int
    misc_select_mask: int
    attributes: bytes
    attributes_mask: bytes
    mr_signer: bytes
    isv_prod_id: int
    levels: tuple[IsvLevel, ...]

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return the identity in a JSON text; those of other enclaves than a QE are refused."""
        fields = parse_object(text, "QE identity")
        version = fields.number("version", _U32)
        if version not in (1, 2):
            fields.refuse("version", "1 or 2")
        tee, number = TeeType.SGX, None
        issued = fields.time("issueDate")
        if version == 2:
            tee = {"QE": TeeType.SGX, "TD_QE": TeeType.TDX}[fields.choice("id", ("QE", "TD_QE"))]
            number = fields.number("tcbEvaluationDataNumber", _U32)
            levels = _isv_levels(fields)
        else:
            svn = fields.number("isvsvn", _U16)
            levels = (
                IsvLevel(svn, issued, TcbStatus.UP_TO_DATE, ()),
                IsvLevel(0, issued, TcbStatus.OUT_OF_DATE, ()),
            )
        return cls(
            tee,
            version,
            issued,
            fields.time("nextUpdate"),
            number,
            int.from_bytes(fields.octets("miscselect", 4), "little"),
            int.from_bytes(fields.octets("miscselectMask", 4), "little"),
            fields.octets("attributes", 16),
            fields.octets("attributesMask", 16),
            fields.octets("mrsigner", 32),
            fields.number("isvprodid", _U16),
            levels,
        )


def _level(fields: Fields, version: int, *, tdx: bool) -> TcbLevel:
    """Return a TCB level."""
    tcb = fields.object("tcb")
    return TcbLevel(
        tcb.numbers("sgxtcbcomponents", "svn", COMPONENTS, 255)
        if version == 3
        else tuple(tcb.number(f"sgxtcbcomp{n:02}svn", 255) for n in range(1, COMPONENTS + 1)),
        tcb.number("pcesvn", _U16),
        tcb.numbers("tdxtcbcomponents", "svn", COMPONENTS, 255) if tdx else (),
        fields.time("tcbDate"),
        TcbStatus(fields.choice("tcbStatus", _STATUSES)),
        fields.texts("advisoryIDs"),
    )


def _module(fields: Fields) -> TdxModuleIdentity:
    """Return the identity of a TDX module version, whose id is TDX_ and two hex digits."""
    name = _MODULE_ID.fullmatch(fields.text("id").upper())
    if name is None or name[1] == "00":
        fields.refuse("id", "like TDX_01")
    return _module_facts(fields, int(name[1], 16), _isv_levels(fields))


def _module_facts(fields: Fields, version: int, levels: tuple[IsvLevel, ...]) -> TdxModuleIdentity:
    """Return what a TDX module must be."""
    return TdxModuleIdentity(
        version,
        fields.octets("mrsigner", 48),
        int.from_bytes(fields.octets("attributes", 8), "little"),
        int.from_bytes(fields.octets("attributesMask", 8), "little"),
        levels,
    )


def _isv_levels(fields: Fields) -> tuple[IsvLevel, ...]:
    """Return the levels of an enclave or a TDX module, best first."""
    levels = [
        IsvLevel(
            entry.object("tcb").number("isvsvn", _U16),
            entry.time("tcbDate"),
            TcbStatus(entry.choice("tcbStatus", _ISV_STATUSES)),
            entry.texts("advisoryIDs"),
        )
        for entry in fields.objects("tcbLevels")
    ]
    if not levels:
        fields.refuse("tcbLevels", "a list of at least one level")
    if len({level.isv_svn for level in levels}) != len(levels):
        raise FormatError(f"{_SOURCE} has two levels of one ISVSVN; which counts is unclear")
    return tuple(sorted(levels, key=lambda level: level.isv_svn, reverse=True))
