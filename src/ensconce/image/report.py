# SPDX-License-Identifier: Apache-2.0
"""What an enclave file says of itself, and whether its signature covers what it holds."""

from dataclasses import dataclass

from ensconce.errors import MeasurementError, UnsignedError, VerificationError
from ensconce.image.metadata import LayoutId, Metadata, PageAttributes
from ensconce.image.page import Image, Mode
from ensconce.image.sdk_image import SdkImage
from ensconce.image.sigstruct import sigstruct_fault
from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect
from ensconce.isa.measurement import MrEnclave
from ensconce.isa.secinfo import PAGE_SIZE, PageType, page_type
from ensconce.isa.sigstruct import SigStruct

__all__ = ["ImageReport", "Memory", "check_image", "verify_image"]


@dataclass(frozen=True, slots=True)
class Memory:
    """What an enclave's layout provides; sizes in bytes.

    `added` counts all pages that the loader adds, `measured` those whose contents are measured.
    Heap and stack are those of SDK enclaves, zero for others; `_max` includes what can be added
    at run time. `threads` are TCSs that can be entered at once, `threads_max` includes those
    added at run time.
    """

    added: int
    measured: int
    threads: int
    threads_max: int
    heap: int
    heap_max: int
    stack: int
    stack_max: int


@dataclass(frozen=True, slots=True)
class ImageReport:
    """An enclave file's identity, its checks and its layout.

    `debug` is whether the SIGSTRUCT lets the enclave run as a debug enclave. `fault` says in
    one sentence what does not verify, and is empty when everything does. `date` is BCD, yyyymmdd.
    """

    source: str
    format: str
    mode: Mode
    mr_enclave: MrEnclave
    signed: bool
    signature_valid: bool
    measurement_matches: bool
    fault: str
    mr_signer: bytes
    enclave_hash: bytes
    isv_prod_id: int
    isv_svn: int
    isv_ext_prod_id: bytes
    isv_family_id: bytes
    vendor: int
    date: int
    sw_defined: int
    attributes: Attributes
    attribute_mask: Attributes
    misc_select: MiscSelect
    misc_mask: MiscSelect
    debug: bool
    size: int
    base: int | None
    ssa_frame_size: int
    memory: Memory


def verify_image(image: Image) -> ImageReport:
    """Measure an enclave and check its SIGSTRUCT; nothing is raised for what does not verify."""
    mr_enclave = image.measure()
    own = image.sigstruct
    sigstruct = own or SigStruct()
    matches = own is not None and mr_enclave == own.enclave_hash
    signature_fault = sigstruct_fault(own) if own is not None else ""
    debug = (
        not sigstruct.attribute_mask.flags & AttributeFlags.DEBUG
        or AttributeFlags.DEBUG in sigstruct.attributes.flags
    )
    return ImageReport(
        source=image.source,
        format=image.format,
        mode=image.mode,
        mr_enclave=mr_enclave,
        signed=own is not None,
        signature_valid=own is not None and not signature_fault,
        measurement_matches=matches,
        fault=_fault(image, mr_enclave, signature_fault),
        mr_signer=b"" if own is None else own.mr_signer,
        enclave_hash=b"" if own is None else own.enclave_hash,
        isv_prod_id=sigstruct.isv_prod_id,
        isv_svn=sigstruct.isv_svn,
        isv_ext_prod_id=sigstruct.isv_ext_prod_id,
        isv_family_id=sigstruct.isv_family_id,
        vendor=sigstruct.vendor,
        date=sigstruct.date,
        sw_defined=sigstruct.sw_defined,
        attributes=sigstruct.attributes if own else image.attributes,
        attribute_mask=sigstruct.attribute_mask,
        misc_select=sigstruct.misc_select if own else image.misc_select,
        misc_mask=sigstruct.misc_mask,
        debug=debug,
        size=image.size,
        base=image.base,
        ssa_frame_size=image.ssa_frame_size,
        memory=_memory(image),
    )


def check_image(image: Image) -> ImageReport:
    """Return the report of an enclave that verifies; raise for one that does not.

    `UnsignedError` without a SIGSTRUCT, `MeasurementError` when the SIGSTRUCT is valid and not
    this enclave's, `VerificationError` when the SIGSTRUCT itself is not valid.
    """
    report = verify_image(image)
    if not report.signed:
        raise UnsignedError(report.fault)
    if not report.signature_valid:
        raise VerificationError(report.fault)
    if not report.measurement_matches:
        raise MeasurementError(report.fault)
    return report


def _fault(image: Image, mr_enclave: MrEnclave, signature_fault: str) -> str:
    """Say what does not verify; a SIGSTRUCT's own fault goes before a mismatch."""
    sigstruct = image.sigstruct
    if sigstruct is None:
        return f"{image.source} has no SIGSTRUCT; sign it or give the one that belongs to it"
    if signature_fault:
        return f"the SIGSTRUCT of {image.source} is not valid: {signature_fault}"
    if mr_enclave == sigstruct.enclave_hash:
        return ""
    hashes = f"it measures to {mr_enclave.hex()}, signed was {sigstruct.enclave_hash.hex()}"
    if _foreign(image, sigstruct):
        return f"the SIGSTRUCT of {image.source} was made for another enclave: {hashes}"
    return f"{image.source} was changed after it was signed: {hashes}"


def _foreign(image: Image, sigstruct: SigStruct) -> bool:
    """Return whether a SIGSTRUCT that does not match can't have been made for this file.

    A signing tool puts one SIGSTRUCT and the matching attributes in each metadata copy.
    """
    if not isinstance(image, SdkImage) or sigstruct != image.metadata.header.sigstruct:
        return True
    header = image.metadata.header
    return (
        header.attributes.flags != sigstruct.attributes.flags
        or header.desired_misc_select & sigstruct.misc_mask != sigstruct.misc_select
        or any(
            copy.header.sigstruct.enclave_hash != sigstruct.enclave_hash
            for copy in image.file.metadata
        )
    )


def _memory(image: Image) -> Memory:
    """Return what an enclave's layout provides."""
    added = measured = tcs = 0
    for run in image.operations():
        added += run.count * PAGE_SIZE
        measured += run.count * run.extended.bit_count() * 256
        tcs += run.count if page_type(run.flags) == PageType.TCS else 0
    if not isinstance(image, SdkImage):
        return Memory(added, measured, tcs, tcs, 0, 0, 0, 0)
    slots = list(image.threads())
    metadata = image.metadata
    return Memory(
        added=added,
        measured=measured,
        threads=sum(not slot.dynamic for slot in slots),
        threads_max=len(slots),
        heap=_sum(metadata, PageAttributes.EADD, LayoutId.HEAP_MIN, LayoutId.HEAP_INIT),
        heap_max=_sum(metadata, _ANY, LayoutId.HEAP_MIN, LayoutId.HEAP_INIT, LayoutId.HEAP_MAX),
        stack=_first(metadata, LayoutId.STACK_MIN),
        stack_max=_first(metadata, LayoutId.STACK_MIN) + _first(metadata, LayoutId.STACK_MAX),
    )


_ANY = PageAttributes.EADD | PageAttributes.POST_ADD


def _sum(metadata: Metadata, attributes: PageAttributes, *ids: LayoutId) -> int:
    """Return the size of the entries of some kinds that have one of the attributes."""
    return sum(entry.size for entry in metadata.entries(*ids) if entry.attributes & attributes)


def _first(metadata: Metadata, kind: LayoutId) -> int:
    """Return the size of the first entry of a kind, 0 if there is none."""
    return next((entry.size for entry in metadata.entries(kind)), 0)
