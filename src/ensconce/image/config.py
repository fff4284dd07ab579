# SPDX-License-Identifier: Apache-2.0
"""Enclave.config.xml: what a signing tool is told of an enclave.

The file is a flat list of elements with a number each, decimal, hexadecimal or octal. Anything
else is an error: unknown or repeated elements, attributes, text between elements, a DOCTYPE.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import NoReturn
from xml.parsers import expat  # no DOCTYPE is let through, so nothing expands

from ensconce.errors import SourceError
from ensconce.isa.record import BytesLike
from ensconce.isa.secinfo import PAGE_SIZE

__all__ = ["ELEMENTS", "EnclaveConfig", "Feature", "parse_config", "render_config"]

_MAX_SIZE = 1 << 20
_MAX_MEMORY = (1 << 64) // 2 - 1
_U16, _U32, _U64 = (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1
_ROOT = "EnclaveConfiguration"
_NUMBER = re.compile(r"\+?(0[xX][0-9a-fA-F]+|[0-9]+)")


class Feature(IntEnum):
    """How an enclave takes an optional part of XSAVE state."""

    DISABLED = 0
    ENABLED = 1
    LOADER_SELECTS = 2


@dataclass(frozen=True, slots=True)
class EnclaveConfig:
    """An enclave's configuration; sizes in bytes, None where the file does not say."""

    isv_prod_id: int = 0
    isv_svn: int = 0
    release_type: int = 0
    intel_signed: int = 0
    provision_key: int = 0
    launch_key: int = 0
    disable_debug: int = 0
    hw: int = 0
    tcs_num: int = 1
    tcs_max_num: int | None = None
    tcs_min_pool: int | None = None
    tcs_policy: int = 1
    stack_max_size: int = 0x40000
    stack_min_size: int | None = None
    heap_max_size: int = 0x1000000
    heap_min_size: int = 0x1000
    heap_init_size: int | None = None
    reserved_mem_max_size: int = 0
    reserved_mem_min_size: int = 0
    reserved_mem_init_size: int | None = None
    reserved_mem_executable: int = 0
    misc_select: int = 0
    misc_mask: int = _U32
    enable_kss: int = 0
    isv_family_id_h: int = 0
    isv_family_id_l: int = 0
    isv_ext_prod_id_h: int = 0
    isv_ext_prod_id_l: int = 0
    enclave_image_address: int | None = None
    elrange_start_address: int | None = None
    elrange_size: int | None = None
    pkru: int = Feature.DISABLED
    amx: int = Feature.DISABLED
    user_region_size: int = 0
    enable_aex_notify: int = 0
    enable_ipp_fips: int = 0
    enable_ossl_fips: int = 0

    @property
    def stack_min(self) -> int:
        """The stack that is never taken away; releases before 2.4 had a default of their own."""
        return 0x2000 if self.stack_min_size is None else self.stack_min_size

    @property
    def heap_init(self) -> int:
        """The heap that is there from the start: all of it, if the file does not say."""
        return self.heap_max_size if self.heap_init_size is None else self.heap_init_size

    @property
    def reserved_init(self) -> int:
        """The reserved memory that is there from the start: all, if the file does not say."""
        stated = self.reserved_mem_init_size
        return self.reserved_mem_max_size if stated is None else stated

    @property
    def threads_max(self) -> int:
        """The number of threads with those that are added at run time."""
        return self.tcs_num if self.tcs_max_num is None else self.tcs_max_num

    @property
    def thread_pool(self) -> int:
        """The number of threads beside the first that stay when memory is dynamic."""
        return min(1 if self.tcs_min_pool is None else self.tcs_min_pool, self.tcs_num - 1)

    @property
    def isv_family_id(self) -> bytes:
        """ISVFAMILYID, 16 bytes."""
        return (self.isv_family_id_h << 64 | self.isv_family_id_l).to_bytes(16, "little")

    @property
    def isv_ext_prod_id(self) -> bytes:
        """ISVEXTPRODID, 16 bytes."""
        return (self.isv_ext_prod_id_h << 64 | self.isv_ext_prod_id_l).to_bytes(16, "little")

    @property
    def dynamic(self) -> bool:
        """Whether heap, stacks, reserved memory or threads can grow at run time."""
        sizes = (
            {self.heap_min_size, self.heap_init, self.heap_max_size},
            {self.stack_min, self.stack_max_size},
            {self.reserved_mem_min_size, self.reserved_init, self.reserved_mem_max_size},
            {self.threads_max, self.thread_pool + 1},
        )
        return any(len(each) > 1 for each in sizes)

    def fault(self) -> str:
        """Return what the elements' values break together, or an empty string."""
        return next((fault for check in _CHECKS if (fault := check(self))), "")


@dataclass(frozen=True, slots=True)
class _Element:
    """An element of the file: its field, and the least and greatest value."""

    field: str
    least: int
    most: int


ELEMENTS: Mapping[str, _Element] = {
    "ProdID": _Element("isv_prod_id", 0, _U16),
    "ISVSVN": _Element("isv_svn", 0, _U16),
    "ReleaseType": _Element("release_type", 0, 1),
    "IntelSigned": _Element("intel_signed", 0, 1),
    "ProvisionKey": _Element("provision_key", 0, 1),
    "LaunchKey": _Element("launch_key", 0, 1),
    "DisableDebug": _Element("disable_debug", 0, 1),
    "HW": _Element("hw", 0, 0x10),
    "TCSNum": _Element("tcs_num", 1, _U32),
    "TCSMaxNum": _Element("tcs_max_num", 1, _U32),
    "TCSMinPool": _Element("tcs_min_pool", 0, _U32),
    "TCSPolicy": _Element("tcs_policy", 0, 1),
    "StackMaxSize": _Element("stack_max_size", PAGE_SIZE, _MAX_MEMORY),
    "StackMinSize": _Element("stack_min_size", PAGE_SIZE, _MAX_MEMORY),
    "HeapMaxSize": _Element("heap_max_size", 0, _MAX_MEMORY),
    "HeapMinSize": _Element("heap_min_size", 0, _MAX_MEMORY),
    "HeapInitSize": _Element("heap_init_size", 0, _MAX_MEMORY),
    "ReservedMemMaxSize": _Element("reserved_mem_max_size", 0, _MAX_MEMORY),
    "ReservedMemMinSize": _Element("reserved_mem_min_size", 0, _MAX_MEMORY),
    "ReservedMemInitSize": _Element("reserved_mem_init_size", 0, _MAX_MEMORY),
    "ReservedMemExecutable": _Element("reserved_mem_executable", 0, 1),
    "MiscSelect": _Element("misc_select", 0, _U32),
    "MiscMask": _Element("misc_mask", 0, _U32),
    "EnableKSS": _Element("enable_kss", 0, 1),
    "ISVFAMILYID_H": _Element("isv_family_id_h", 0, _U64),
    "ISVFAMILYID_L": _Element("isv_family_id_l", 0, _U64),
    "ISVEXTPRODID_H": _Element("isv_ext_prod_id_h", 0, _U64),
    "ISVEXTPRODID_L": _Element("isv_ext_prod_id_l", 0, _U64),
    "EnclaveImageAddress": _Element("enclave_image_address", PAGE_SIZE, _U64),
    "ELRangeStartAddress": _Element("elrange_start_address", 0, _U64),
    "ELRangeSize": _Element("elrange_size", PAGE_SIZE, _U64),
    "PKRU": _Element("pkru", 0, 2),
    "AMX": _Element("amx", 0, 2),
    "UserRegionSize": _Element("user_region_size", 0, _MAX_MEMORY),
    "EnableAEXNotify": _Element("enable_aex_notify", 0, 1),
    "EnableIPPFIPS": _Element("enable_ipp_fips", 0, 1),
    "EnableOSSLFIPS": _Element("enable_ossl_fips", 0, 1),
}


def _alignment(config: EnclaveConfig) -> str:
    sizes = {name: each for name, each in ELEMENTS.items() if name.endswith("Size")}
    for name, element in sizes.items():
        if (getattr(config, element.field) or 0) % PAGE_SIZE:
            return f"{name} is not a multiple of {PAGE_SIZE:#x}"
    return ""


def _memory(config: EnclaveConfig) -> str:
    if config.stack_min > config.stack_max_size:
        return "StackMinSize is greater than StackMaxSize"
    if not config.heap_min_size <= config.heap_init <= config.heap_max_size:
        return "HeapMinSize, HeapInitSize and HeapMaxSize do not ascend"
    low, high = config.reserved_mem_min_size, config.reserved_mem_max_size
    if not low <= config.reserved_init <= high:
        return "ReservedMemMinSize, ReservedMemInitSize and ReservedMemMaxSize do not ascend"
    if config.user_region_size and not config.misc_select & config.misc_mask & 1:
        return "UserRegionSize needs bit 0 of both MiscSelect and MiscMask"
    return ""


def _threads(config: EnclaveConfig) -> str:
    if config.threads_max < config.tcs_num:
        return "TCSMaxNum is smaller than TCSNum"
    if config.tcs_min_pool is not None and config.tcs_min_pool > config.threads_max:
        return "TCSMinPool is greater than TCSMaxNum or TCSNum"
    return ""


def _features(config: EnclaveConfig) -> str:
    if bool(config.hw) != bool(config.launch_key):
        return "HW and LaunchKey belong together: a launch enclave sets both, others neither"
    if any(config.isv_ext_prod_id + config.isv_family_id) and not config.enable_kss:
        return "ISVEXTPRODID and ISVFAMILYID need EnableKSS"
    if config.enable_ipp_fips and config.enable_ossl_fips:
        return "EnableIPPFIPS and EnableOSSLFIPS exclude each other"
    return ""


def _elrange(config: EnclaveConfig) -> str:
    image, start, size = (
        config.enclave_image_address or 0,
        config.elrange_start_address or 0,
        config.elrange_size,
    )
    if size is None:
        return (
            "EnclaveImageAddress and ELRangeStartAddress need ELRangeSize" if image or start else ""
        )
    if image % PAGE_SIZE or size % PAGE_SIZE or size & (size - 1):
        return "EnclaveImageAddress and ELRangeSize are pages, ELRangeSize is a power of two"
    if start & (size - 1) or start > image or start + size > 1 << 64:
        return "ELRangeStartAddress is aligned to ELRangeSize and not above EnclaveImageAddress"
    return ""


_CHECKS = (_alignment, _memory, _threads, _features, _elrange)


class _Reader:
    """The handlers that collect the elements while expat parses."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.values: dict[str, int | None] = {}
        self._path: list[str] = []
        self._text: list[str] = []
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def fail(self, fault: str) -> NoReturn:
        """Raise what is wrong where the parser is."""
        line, column = self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1
        raise SourceError(
            f"{self.source}, line {line}: {fault}", source=self.source, line=line, column=column
        )

    def read(self, text: BytesLike) -> None:
        """Parse the whole text."""
        try:
            self._parser.Parse(bytes(text), True)  # noqa: FBT003  # it takes no keywords
        except expat.ExpatError as error:
            reason = expat.errors.messages[error.code]
            raise SourceError(
                f"{self.source}, line {error.lineno}: is not well-formed XML: {reason}",
                source=self.source,
                line=error.lineno,
                column=error.offset + 1,
            ) from None
        except (LookupError, ValueError) as error:
            raise SourceError(f"{self.source}: {error}", source=self.source) from None

    def _doctype(self, *_: object) -> None:
        self.fail("a DOCTYPE has no place in an enclave's configuration; remove it")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if attributes:
            self.fail(f"{name} has attributes; its value goes between its tags")
        if not self._path:
            if name != _ROOT:
                self.fail(f"the outermost element is {name} instead of {_ROOT}")
        elif len(self._path) > 1:
            self.fail(f"{name} stands inside {self._path[-1]}")
        elif name not in ELEMENTS:
            self.fail(f"{name} is no element of an enclave's configuration; check its spelling")
        elif ELEMENTS[name].field in self.values:
            self.fail(f"{name} is given twice")
        self._path.append(name)
        self._text = []

    def _characters(self, text: str) -> None:
        if len(self._path) == 1 and text.strip():
            self.fail(f"{text.strip()[:20]!r} stands outside an element")
        self._text.append(text)

    def _end(self, name: str) -> None:
        self._path.pop()
        if not self._path:
            return
        element, text = ELEMENTS[name], "".join(self._text).strip()
        if not _NUMBER.fullmatch(text) or len(text) > 64:
            self.fail(
                f"{name} is {text[:20]!r}, which is no number" if text else f"{name} is empty"
            )
        digits = text.removeprefix("+")
        octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
        if octal and not set(digits) <= set("01234567"):
            self.fail(f"{name} is {text!r}, which starts as an octal number and is none")
        value = int(digits, 8 if octal else 0)
        if not element.least <= value <= element.most:
            self.fail(f"{name} is {text}, outside {element.least:#x} to {element.most:#x}")
        self.values[element.field] = value


def parse_config(text: BytesLike, *, source: str = "Enclave.config.xml") -> EnclaveConfig:
    """Return an enclave's configuration; raise `SourceError` for what the signing tool refuses."""
    if len(text) > _MAX_SIZE:
        raise SourceError(
            f"{source} has {len(text)} bytes; an enclave's configuration has a few thousand",
            source=source,
        )
    reader = _Reader(source)
    reader.read(text)
    config = EnclaveConfig(**reader.values)  # type: ignore[arg-type]  # by ELEMENTS
    if fault := config.fault():
        raise SourceError(f"{source}: {fault}", source=source)
    return config


def render_config(config: EnclaveConfig) -> str:
    """Return the file that says what differs from the defaults; its sizes are hexadecimal."""
    defaults = {field.name: field.default for field in fields(EnclaveConfig)}
    lines = [f"<{_ROOT}>"]
    for name, element in ELEMENTS.items():
        value = getattr(config, element.field)
        if value is not None and value != defaults[element.field]:
            lines.append(f"  <{name}>{value:#x}</{name}>")
    return "\n".join([*lines, f"</{_ROOT}>", ""])
