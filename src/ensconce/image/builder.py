# SPDX-License-Identifier: Apache-2.0
"""Metadata and an unsigned SIGSTRUCT from an enclave's ELF file and its configuration."""

import datetime
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ensconce.errors import ConfigError
from ensconce.image.config import EnclaveConfig, Feature
from ensconce.image.elf import page_end
from ensconce.image.enclave_elf import EnclaveElf
from ensconce.image.generation import Generation
from ensconce.image.layout import (
    SSA_FRAMES,
    TCS_TEMPLATE_SIZE,
    Layout,
    LayoutItem,
    plain_layout,
)
from ensconce.image.metadata import (
    DIRECTORY_OFFSET,
    MAGIC,
    DataDirectory,
    Directory,
    Elrange,
    ExtendEntry,
    ExtendId,
    LayoutEntry,
    LayoutId,
    MetadataHeader,
    PatchEntry,
)
from ensconce.image.sigstruct import DEBUG_HEADER, INTEL_VENDOR
from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.isa.sigstruct import HEADER, SigStruct
from ensconce.isa.ssa import GprSgx
from ensconce.isa.tcs import Tcs, TcsFlags

__all__ = ["MetadataCopies", "bcd_date", "build_metadata", "unsigned_sigstruct"]

_WORD = (1 << 64) - 1
_FIXED_SAVE_SIZE = 2632
_FIPS_SIGNATURE_SIZE = 772
_UNCHECKED_FLAGS = 0x00FF000000000000
_ELRANGE_VERSIONS = 10

# the fields of the ELF header that say where sections are: sections are not loaded
_SHOFF, _SHNUM, _SHSTRNDX = (40, 8), (60, 2), (62, 2)


@dataclass(frozen=True, slots=True)
class MetadataCopies:
    """The metadata of an enclave, without its SIGSTRUCT: the copy that is measured, and all.

    `sign` puts a SIGSTRUCT into each.
    """

    measured: bytes
    copies: tuple[bytes, ...]

    def sign(self, sigstruct: SigStruct) -> bytes:
        """Return the note's contents with a SIGSTRUCT in every copy."""
        at = MetadataHeader.offset_of("sigstruct")
        signature = bytes(sigstruct)
        return b"".join(copy[:at] + signature + copy[at + len(signature) :] for copy in self.copies)


def bcd_date(date: datetime.date) -> int:
    """Return a date as SIGSTRUCT has it: yyyymmdd in BCD."""
    return int(date.strftime("%Y%m%d"), 16)


def unsigned_sigstruct(config: EnclaveConfig, generation: Generation, date: int) -> SigStruct:
    """Return the SIGSTRUCT that a configuration asks for, without hash, key and signature."""
    flags = AttributeFlags.MODE64BIT
    for wanted, flag in (
        (config.provision_key, AttributeFlags.PROVISIONKEY),
        (config.launch_key, AttributeFlags.EINITTOKENKEY),
        (config.enable_kss, AttributeFlags.KSS),
        (config.enable_aex_notify, AttributeFlags.AEXNOTIFY),
    ):
        flags |= flag if wanted else AttributeFlags(0)
    unchecked = 0 if config.disable_debug else int(AttributeFlags.DEBUG)
    unchecked |= _UNCHECKED_FLAGS if generation.selects_copies else 0
    xfrm, xfrm_mask = _xfrm(config, generation)
    select = MiscSelect(config.misc_select)
    mask = MiscSelect(config.misc_mask)
    return SigStruct(
        header=DEBUG_HEADER if config.release_type else HEADER,
        vendor=INTEL_VENDOR if config.intel_signed else 0,
        date=date,
        sw_defined=config.hw,
        misc_select=select & mask if generation.masks_misc_select else select,
        misc_mask=mask,
        isv_family_id=config.isv_family_id,
        attributes=Attributes(flags, xfrm),
        attribute_mask=Attributes(AttributeFlags(_WORD & ~unchecked), xfrm_mask),
        isv_ext_prod_id=config.isv_ext_prod_id,
        isv_prod_id=config.isv_prod_id,
        isv_svn=config.isv_svn,
    )


def _xfrm(config: EnclaveConfig, generation: Generation) -> tuple[Xfrm, Xfrm]:
    """Return XFRM and its mask: x87 and SSE, what is unknown off, the rest as configured."""
    xfrm, mask = Xfrm.LEGACY, Xfrm(_WORD & ~int(generation.xfrm)) | Xfrm.LEGACY
    for choice, bits in (
        (config.pkru, Xfrm.PKRU),
        (config.amx, Xfrm.TILECFG | Xfrm.TILEDATA),
    ):
        if choice != Feature.LOADER_SELECTS:
            mask |= bits
        if choice == Feature.ENABLED:
            xfrm |= bits
    return xfrm, mask


_ELEMENT_SINCE = {
    "enable_kss": ("EnableKSS", (2, 4, 0)),
    "reserved_mem_max_size": ("ReservedMemMaxSize", (2, 8, 0)),
    "reserved_mem_executable": ("ReservedMemExecutable", (2, 8, 0)),
    "elrange_size": ("ELRangeSize", (2, 14, 0)),
    "pkru": ("PKRU", (2, 16, 0)),
    "amx": ("AMX", (2, 18, 0)),
    "user_region_size": ("UserRegionSize", (2, 18, 0)),
    "enable_aex_notify": ("EnableAEXNotify", (2, 20, 0)),
    "enable_ipp_fips": ("EnableIPPFIPS", (2, 25, 0)),
}


def _settled(config: EnclaveConfig, generation: Generation) -> EnclaveConfig:
    """Return a configuration with the smallest stack that its release takes by default."""
    smallest = generation.smallest_stack
    if config.stack_min_size is None:
        config = replace(config, stack_min_size=min(smallest, config.stack_max_size))
    if config.stack_min < smallest:
        raise ConfigError(f"StackMinSize is {config.stack_min:#x}, less than {smallest:#x}")
    return config


def _check(config: EnclaveConfig, generation: Generation, source: str) -> None:
    """Raise `ConfigError` for what the enclave's runtime, or this signer, does not have."""
    if config.enable_ossl_fips:
        raise ConfigError(
            "EnableOSSLFIPS loads the vendor's FIPS provider into the enclave, which is not "
            "supported; sign without it"
        )
    for field, (name, since) in _ELEMENT_SINCE.items():
        if getattr(config, field) and generation.sdk < since:
            raise ConfigError(
                f"{name} needs an enclave built with SDK {since[0]}.{since[1]} or later, and "
                f"{source} was built with SDK {generation.sdk[0]}.{generation.sdk[1]}; "
                "rebuild it, or remove the element"
            )


def build_metadata(
    file: EnclaveElf, config: EnclaveConfig, generation: Generation, sigstruct: SigStruct
) -> MetadataCopies:
    """Return the metadata that the SDK's own signing tool would write for a file.

    Raises `ConfigError` for a configuration that this file can't have, `FormatError` for a file
    without the symbols that the trusted runtime exports.
    """
    config = _settled(config, generation)
    _check(config, generation, file.source)
    return _Builder(file, config, generation, sigstruct).build()


class _Area:
    """Metadata that is being written, front to back."""

    def __init__(self, directories: int) -> None:
        self.data = bytearray(DIRECTORY_OFFSET + directories * DataDirectory.SIZE)

    def take(self, size: int) -> int:
        """Return the offset of new room."""
        offset = len(self.data)
        self.data += bytes(size)
        return offset

    def put(self, offset: int, content: bytes) -> None:
        """Write at an offset."""
        self.data[offset : offset + len(content)] = content

    def point(self, which: Directory, offset: int, size: int) -> None:
        """Write where a table lies."""
        at = DIRECTORY_OFFSET + which * DataDirectory.SIZE
        self.put(at, bytes(DataDirectory(offset, size)))


class _Builder:
    """The state of `build_metadata`."""

    def __init__(
        self,
        file: EnclaveElf,
        config: EnclaveConfig,
        generation: Generation,
        sigstruct: SigStruct,
    ) -> None:
        self.file = file
        self.config = config
        self.generation = generation
        self.sigstruct = sigstruct
        self.area = _Area(generation.directories)
        known, mask = sigstruct.attributes.xfrm, sigstruct.attribute_mask.xfrm
        self.xfrm = Xfrm(_WORD & ~int(mask)) | known & mask
        sizes = [size for bits, size in generation.xsave if self.xfrm & bits == bits]
        self.xsave_size = sizes[-1]
        frame = page_end(self.xsave_size + GprSgx.SIZE) // PAGE_SIZE
        self.ssa_frame_size = 1 if generation.fixed_ssa else frame
        tls = file.tls
        alignment = max(tls.alignment, 1) if tls else 1
        self.tls_size = -(-tls.memory_size // alignment) * alignment if tls else 0
        self.dynamic = generation.selects_copies and config.dynamic and bool(config.misc_select & 1)
        self.dynamic |= bool(config.user_region_size)

    def build(self) -> MetadataCopies:
        """Return the copies."""
        elrange = self._elrange()
        self._extend_table()
        tcs_at = self.area.take(TCS_TEMPLATE_SIZE)
        layout = Layout(
            config=self.config,
            generation=self.generation,
            image_size=self.file.image_size,
            segment_pages=[page_end(each.memory_size) // PAGE_SIZE for each in self.file.segments],
            tls_pages=page_end(self.tls_size) // PAGE_SIZE,
            ssa_frame_size=self.ssa_frame_size,
            tcs_template=tcs_at,
            dynamic=self.dynamic,
        )
        items, end, size = layout.build()
        places = {item.id: item for item in reversed(items) if isinstance(item, LayoutEntry)}
        shift = self._image_offset(elrange, end)
        tcs = self._tcs(places, shift)
        self.area.put(tcs_at, tcs)
        data_at = self._patches()
        table = self.area.take(len(items) * LayoutEntry.SIZE)
        self.area.put(table, b"".join(bytes(item) for item in items))
        self.area.point(Directory.LAYOUT, table, len(items) * LayoutEntry.SIZE)
        values = self._values(places, size, layout.reserved_init(items, end, size), elrange)
        values["edmm_bk_overhead"] = layout.overhead
        self.area.put(data_at, self._global_data(values, tcs, items))
        return self._copies(items, table, size)

    def _elrange(self) -> Elrange | None:
        """Write the entry of a fixed ELRANGE, if one is configured."""
        config = self.config
        if not config.elrange_size:
            return None
        elrange = Elrange(
            config.enclave_image_address or 0,
            config.elrange_start_address or 0,
            config.elrange_size,
        )
        if self.generation.directories <= Directory.ELRANGE:
            self.area.take(DataDirectory.SIZE)
        at = self.area.take(Elrange.SIZE)
        self.area.put(at, bytes(elrange))
        self.area.point(Directory.ELRANGE, at, Elrange.SIZE)
        return elrange

    def _extend_table(self) -> None:
        """Make room for the FIPS signature, if one is configured."""
        if not self.config.enable_ipp_fips:
            return
        table = self.area.take(ExtendEntry.SIZE)
        at = self.area.take(_FIPS_SIGNATURE_SIZE)
        self.area.put(table, bytes(ExtendEntry(ExtendId.FIPS_SIGNATURE, _FIPS_SIGNATURE_SIZE, at)))
        self.area.point(Directory.EXTEND, table, ExtendEntry.SIZE)

    def _image_offset(self, elrange: Elrange | None, end: int) -> int:
        """Return where the image lies in ELRANGE, having checked that it fits."""
        if elrange is None:
            return 0
        offset = elrange.enclave_image_address - elrange.elrange_start_address
        if offset + end > elrange.elrange_size:
            raise ConfigError(
                f"ELRangeSize {elrange.elrange_size:#x} is too small: the enclave needs {end:#x} "
                f"bytes from EnclaveImageAddress {elrange.enclave_image_address:#x} on"
            )
        return offset

    def _tcs(self, places: Mapping[int, LayoutEntry], shift: int) -> bytes:
        """Return the TCS's first bytes; its offsets are from the TCS, but for the entry."""
        entry = self.file.symbols.get("enclave_entry", self.file.elf.entry)
        if not entry:
            raise self.file.error("has no enclave_entry; link it with the SDK's trusted runtime")
        tcs, data = places[LayoutId.TCS], places[LayoutId.TD]
        segment = data.rva - tcs.rva + data.size - PAGE_SIZE + shift
        notify = AttributeFlags.AEXNOTIFY in self.sigstruct.attributes.flags
        return bytes(
            Tcs(
                flags=TcsFlags.AEXNOTIFY if notify else TcsFlags(0),
                ossa=(places[LayoutId.SSA].rva - tcs.rva + shift) & _WORD,
                nssa=SSA_FRAMES,
                oentry=entry + shift,
                ofs_base=segment & _WORD,
                ogs_base=segment & _WORD,
                fs_limit=0xFFFFFFFF,
                gs_limit=0xFFFFFFFF,
            )
        )[:TCS_TEMPLATE_SIZE]

    def _patches(self) -> int:
        """Write the table of patches and return where the new g_global_data goes."""
        size = self.generation.global_data_size
        data = self.area.take(size)
        zero = self.area.take(8)
        target = self.file.loaded(self.file.symbols["g_global_data"], size)
        patches = [PatchEntry(target, data, size)]
        patches += (PatchEntry(at, zero, width) for at, width in (_SHNUM, _SHOFF, _SHSTRNDX))
        table = self.area.take(len(patches) * PatchEntry.SIZE)
        self.area.put(table, b"".join(bytes(patch) for patch in patches))
        self.area.point(Directory.PATCH, table, len(patches) * PatchEntry.SIZE)
        return data

    def _values(
        self,
        places: Mapping[int, LayoutEntry],
        size: int,
        reserved_init: int,
        elrange: Elrange | None,
    ) -> dict[str, int]:
        """Return the fields of g_global_data and of the thread data by name."""
        config = self.config
        tcs = places[LayoutId.TCS].rva
        stack = places[LayoutId.STACK_MIN].rva + config.stack_min - tcs
        ssa = places[LayoutId.SSA].rva - tcs
        data = places[LayoutId.TD].rva - tcs + places[LayoutId.TD].size - PAGE_SIZE
        tls_field = 8 * self.generation.thread.index("tls_addr")
        values = {
            "enclave_size": size,
            "heap_offset": places[LayoutId.HEAP_MIN].rva,
            "heap_size": config.heap_init,
            "thread_policy": config.tcs_policy,
            "tcs_max_num": config.threads_max,
            "tcs_num": config.tcs_num,
            "fips_on": config.enable_ipp_fips,
            "self_addr": data,
            "last_sp": stack,
            "stack_base_addr": stack,
            "stack_limit_addr": stack - config.stack_max_size,
            "xsave_size": self.xsave_size,
            "first_ssa_gpr": ssa + self.ssa_frame_size * PAGE_SIZE - GprSgx.SIZE,
            "first_ssa_xsave": ssa,
            "tls_addr": data - self.tls_size,
            "tls_array": data + tls_field,
            "elrange_size": size if self.generation.elrange_defaults_to_size else 0,
        }
        if LayoutId.RSRV_MIN in places:
            values["rsrv_offset"] = places[LayoutId.RSRV_MIN].rva
            values["rsrv_size"] = reserved_init
            values["rsrv_executable"] = config.reserved_mem_executable
        if elrange is not None:
            values["enclave_image_address"] = elrange.enclave_image_address
            values["elrange_start_address"] = elrange.elrange_start_address
            values["elrange_size"] = elrange.elrange_size
        return values

    def _global_data(
        self, values: Mapping[str, int], tcs: bytes, items: Sequence[LayoutItem]
    ) -> bytes:
        """Return the g_global_data that the runtime finds, all addresses from the TCS."""
        generation = self.generation

        def words(names: Sequence[str]) -> bytes:
            return b"".join((values.get(name, 0) & _WORD).to_bytes(8, "little") for name in names)

        table = b"".join(bytes(item) for item in items)
        return b"".join(
            (
                words(generation.words),
                words(generation.thread).ljust(generation.thread_size, b"\0"),
                tcs,
                struct.pack("<II", len(items), 0),
                table.ljust(generation.slots * LayoutEntry.SIZE, b"\0"),
                words(generation.tail),
            )
        )

    def _header(self, version: tuple[int, int], copy_size: int, size: int) -> bytes:
        """Return the header of a copy."""
        config, generation = self.config, self.generation
        major, minor = version
        if config.elrange_size:
            major += _ELRANGE_VERSIONS
        select = MiscSelect(config.misc_select if generation.masks_misc_select else 0)
        return bytes(
            MetadataHeader(
                magic=MAGIC,
                version=major << 32 | minor,
                size=copy_size,
                tcs_policy=config.tcs_policy,
                ssa_frame_size=self.ssa_frame_size,
                max_save_buffer_size=(
                    _FIXED_SAVE_SIZE if generation.fixed_ssa else self.xsave_size
                ),
                desired_misc_select=select,
                tcs_min_pool=1 if config.tcs_min_pool is None else config.tcs_min_pool,
                enclave_size=size,
                attributes=Attributes(self.sigstruct.attributes.flags, self.xfrm),
                sigstruct=self.sigstruct,
            )
        )

    def _copies(self, items: Sequence[LayoutItem], table: int, size: int) -> MetadataCopies:
        """Return all copies: which ones there are depends on the release and on what can grow."""
        generation = self.generation
        native = self._copy(generation.version, items, table, size)
        plain_items = plain_layout(items, self.config, generation)
        plain = self._copy((1, generation.plain_minor), plain_items, table, size)
        if not generation.selects_copies:
            retired = generation.retired_copy and not self.config.elrange_size
            older = [self._copy((2, 1), items, table, size)] if retired else []
            copies = [native, *older, plain]
        elif not self.dynamic:
            copies = [plain]
        elif self.config.user_region_size or self.config.misc_mask & 1:
            copies = [native]
        else:
            copies = [native, plain]
        total = sum(len(copy) for copy in copies)
        room = min(generation.room, self.file.note_size)
        if total > room:
            raise ConfigError(
                f"the metadata takes {total:#x} bytes of the {room:#x} that the enclave's note has"
            )
        return MetadataCopies(native, tuple(copies))

    def _copy(
        self, version: tuple[int, int], items: Sequence[LayoutItem], table: int, size: int
    ) -> bytes:
        """Return one copy of the metadata, its layout table last."""
        area = _Area(0)
        area.data = self.area.data[:table] + b"".join(bytes(item) for item in items)
        area.point(Directory.LAYOUT, table, len(items) * LayoutEntry.SIZE)
        area.put(0, self._header(version, len(area.data), size))
        return bytes(area.data)
