# SPDX-License-Identifier: Apache-2.0
"""The configuration that an enclave was signed with, read back from its metadata."""

from collections.abc import Sequence

from ensconce.errors import FormatError
from ensconce.image.config import EnclaveConfig, Feature
from ensconce.image.generation import Bookkeeping, Generation
from ensconce.image.layout import RESERVE_GUARDS
from ensconce.image.metadata import (
    ExtendId,
    LayoutEntry,
    LayoutGroup,
    LayoutId,
    Metadata,
    parse_layout,
)
from ensconce.image.metadata import PageAttributes as Page
from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.secinfo import SecInfoFlags
from ensconce.isa.sigstruct import HEADER, SigStruct

__all__ = ["recover_config"]

_AMX = Xfrm.TILECFG | Xfrm.TILEDATA


def recover_config(metadata: Metadata, generation: Generation) -> EnclaveConfig:
    """Return a configuration from which signing makes the same enclave again.

    Elements that had no effect come back as their defaults.
    """
    header, sigstruct = metadata.header, metadata.header.sigstruct
    layout = _runtime_layout(metadata, generation)
    entries = {item.id: item for item in reversed(layout) if isinstance(item, LayoutEntry)}

    def size(kind: LayoutId) -> int:
        return entries[kind].size if kind in entries else 0

    heap = size(LayoutId.HEAP_MIN)
    heap_init = heap + size(LayoutId.HEAP_INIT)
    stack = size(LayoutId.STACK_MIN)
    reserved = size(LayoutId.RSRV_MIN)
    reserved_init = reserved + size(LayoutId.RSRV_INIT)
    flags = entries[LayoutId.RSRV_MIN].si_flags if LayoutId.RSRV_MIN in entries else 0
    pool, removed, added = _threads(layout)
    elrange = metadata.elrange
    return EnclaveConfig(
        **_identity(sigstruct, generation),
        misc_select=int(header.desired_misc_select | sigstruct.misc_select),
        tcs_num=1 + pool + removed,
        tcs_max_num=1 + pool + added if added else None,
        tcs_min_pool=header.tcs_min_pool,
        tcs_policy=header.tcs_policy,
        stack_max_size=stack + size(LayoutId.STACK_MAX),
        stack_min_size=stack,
        heap_max_size=heap_init + size(LayoutId.HEAP_MAX),
        heap_min_size=heap,
        heap_init_size=heap_init,
        reserved_mem_max_size=reserved_init + size(LayoutId.RSRV_MAX),
        reserved_mem_min_size=reserved,
        reserved_mem_init_size=reserved_init,
        reserved_mem_executable=int(bool(flags & SecInfoFlags.X)),
        enclave_image_address=None if elrange is None else elrange.enclave_image_address,
        elrange_start_address=None if elrange is None else elrange.elrange_start_address,
        elrange_size=None if elrange is None else elrange.elrange_size,
        user_region_size=_user_region(metadata, generation, size(LayoutId.USER_REGION)),
        enable_ipp_fips=int(ExtendId.FIPS_SIGNATURE in metadata.extensions),
    )


def _runtime_layout(
    metadata: Metadata, generation: Generation
) -> tuple[LayoutEntry | LayoutGroup, ...]:
    """Return the layout that the trusted runtime is told of, which no platform's copy cuts."""
    patch = max(metadata.patches, key=lambda each: each.size, default=None)
    if patch is None or patch.size != generation.global_data_size:
        raise FormatError(
            f"{metadata.source} has metadata that patches no g_global_data of its SDK; "
            "re-sign it without a configuration",
            source=metadata.source,
        )
    at = patch.src + generation.layout_offset
    count = int.from_bytes(metadata.content(at, 4), "little")
    return parse_layout(metadata.content(at + 8, min(count, generation.slots) * LayoutEntry.SIZE))


def _user_region(metadata: Metadata, generation: Generation, size: int) -> int:
    """Return the memory that an enclave may ask for, without what its bookkeeping takes.

    Bookkeeping takes a page for each 2**27 bytes beside a part that the release counts.
    """
    if not size or generation.bookkeeping is not Bookkeeping.ALIGNED:
        return 0
    at = generation.global_data_size - 8 * len(generation.tail)
    at += 8 * generation.tail.index("edmm_bk_overhead")
    patch = max(metadata.patches, key=lambda each: each.size)
    overhead = int.from_bytes(metadata.content(patch.src + at, 8), "little")
    return max(size - overhead - RESERVE_GUARDS, 0)


def _identity(sigstruct: SigStruct, generation: Generation) -> dict[str, int]:
    """Return the elements that SIGSTRUCT holds."""
    flags = sigstruct.attributes.flags
    family = int.from_bytes(sigstruct.isv_family_id, "little")
    product = int.from_bytes(sigstruct.isv_ext_prod_id, "little")
    low = (1 << 64) - 1
    return {
        "isv_prod_id": sigstruct.isv_prod_id,
        "isv_svn": sigstruct.isv_svn,
        "release_type": int(sigstruct.header != HEADER),
        "intel_signed": int(bool(sigstruct.vendor)),
        "provision_key": int(AttributeFlags.PROVISIONKEY in flags),
        "launch_key": int(AttributeFlags.EINITTOKENKEY in flags),
        "disable_debug": int(AttributeFlags.DEBUG in sigstruct.attribute_mask.flags),
        "hw": sigstruct.sw_defined,
        "misc_mask": int(sigstruct.misc_mask),
        "enable_kss": int(AttributeFlags.KSS in flags),
        "isv_family_id_h": family >> 64,
        "isv_family_id_l": family & low,
        "isv_ext_prod_id_h": product >> 64,
        "isv_ext_prod_id_l": product & low,
        "pkru": _feature(sigstruct.attributes, sigstruct.attribute_mask, generation, Xfrm.PKRU),
        "amx": _feature(sigstruct.attributes, sigstruct.attribute_mask, generation, _AMX),
        "enable_aex_notify": int(AttributeFlags.AEXNOTIFY in flags),
    }


def _feature(
    attributes: Attributes, mask: Attributes, generation: Generation, bits: Xfrm
) -> Feature:
    """Return how an optional part of XFRM was configured."""
    if not mask.xfrm & bits and generation.xfrm & bits:
        return Feature.LOADER_SELECTS
    return Feature.ENABLED if attributes.xfrm & bits else Feature.DISABLED


def _threads(layout: Sequence[LayoutEntry | LayoutGroup]) -> tuple[int, int, int]:
    """Return how many threads beside the first stay, are removed, and are added at run time."""
    pool = removed = added = 0
    last: LayoutEntry | None = None
    first = True
    for item in layout:
        if isinstance(item, LayoutGroup):
            if item.id == LayoutId.THREAD_GROUP_DYN:
                added += item.load_times
            elif last is not None and last.attributes & Page.EREMOVE:
                removed += item.load_times
            else:
                pool += item.load_times
            continue
        if item.id == LayoutId.TCS:
            if item.attributes & Page.EREMOVE:
                removed += 1
            elif not first:
                pool += 1
            first = False
            last = item
    return pool, removed, added
