# SPDX-License-Identifier: Apache-2.0
"""The single checks of a lint: what an image's headers, symbols, relocations and code tell."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from ensconce.errors import FormatError
from ensconce.image.elf import DynamicTag, Elf, RelocationType, SegmentFlags, SegmentType
from ensconce.image.enclave_elf import NOTE_SECTION, EnclaveElf
from ensconce.image.linkage import check_linkage
from ensconce.image.page import Mode
from ensconce.isa.attributes import AttributeFlags
from ensconce.sdk.functions import Functions, Place
from ensconce.sdk.instruction import forbidden
from ensconce.sdk.lint_finding import Check, Finding, Severity

__all__ = ["code_findings", "file_findings", "is_signed"]

_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

_NEEDED = ("enclave_entry", "g_global_data")
# Our own runtime's, which has no use for one kind of relocation.
_OUR_RUNTIME = "tee_entry_start"
# On processors with SGX2 these run in an enclave.
_SGX2 = ("RDTSC", "RDTSCP")
# An access to the stack protector's value: MOV, SUB, XOR or CMP with FS:0x28.
_PROTECTOR = re.compile(
    rb"\x64[\x48\x4c][\x8b\x2b\x33\x3b][\x04\x0c\x14\x1c\x24\x2c\x34\x3c]\x25\x28\0\0\0", re.DOTALL
)
_INSTRUCTIONS = {
    Check.ILLEGAL_INSTRUCTION: (_ERROR, "would fault in an enclave"),
    Check.LOOKS_ILLEGAL: (_WARNING, "would fault, if these bytes are code and not data"),
    Check.SGX2_INSTRUCTION: (_WARNING, "would fault on processors without SGX2"),
}
_PROTECTOR_NAME = "__stack_chk_fail"


def is_signed(elf: Elf, source: str) -> bool:
    """Say whether a file holds a signer's metadata."""
    return elf.section(NOTE_SECTION) is not None and bool(EnclaveElf(elf.data, source).metadata)


def file_findings(elf: Elf, source: str) -> Iterator[Finding]:
    """Yield what is wrong with everything but the code."""
    yield from _segments(elf)
    yield from _relocations(elf)
    yield from _hardening(elf)
    try:
        file = EnclaveElf(elf.data, source)
    except FormatError as error:
        if elf.section(NOTE_SECTION) is not None:
            raise
        yield Finding(Check.NO_METADATA_ROOM, _ERROR, _of_image(error, source))
        return
    # A signed file has been through a signer, who may have been told to let this pass.
    severity = _WARNING if file.metadata else _ERROR
    yield from _linkage(file, severity)
    if file.mode is Mode.SIM:
        what = "the code was built for the vendor's simulation mode, which no processor runs"
        yield Finding(Check.SIMULATION, _ERROR, what)
    if file.metadata:
        css = file.metadata[0].header.sigstruct
        masked = AttributeFlags.DEBUG in css.attribute_mask.flags
        if not masked or AttributeFlags.DEBUG in css.attributes.flags:
            what = "the signature lets anybody run the enclave in debug mode, open to its host"
            yield Finding(Check.DEBUG_LAUNCH, _WARNING, what)


def _of_image(error: FormatError, source: str) -> str:
    """Return what an error says of a file, without the file's name."""
    return f"the image {str(error).removeprefix(source).strip()}"


def _linkage(file: EnclaveElf, severity: Severity) -> Iterator[Finding]:
    """Check what a signer needs."""
    exported = {symbol.name for symbol in file.elf.dynamic_symbols if symbol.section}
    for name in _NEEDED:
        # A signer falls back on the ELF header's entry.
        if name not in exported and not (name == "enclave_entry" and file.elf.entry):
            yield Finding(Check.MISSING_SYMBOL, severity, f"the symbol {name} is not exported")
    try:
        check_linkage(file)
    except FormatError as error:
        what = f"the signer refuses this: {_of_image(error, file.source)}"
        yield Finding(Check.LINKAGE, severity, what)


def _segments(elf: Elf) -> Iterator[Finding]:
    both = SegmentFlags.W | SegmentFlags.X
    for segment in elf.segments:
        if segment.type == SegmentType.LOAD and segment.flags & both == both:
            what = "a segment is writable and executable"
            yield Finding(Check.WRITABLE_CODE, _WARNING, what, segment.address)
        if segment.type == SegmentType.INTERP:
            what = (
                "the image asks for a dynamic linker, as GNU ld writes it with -pie; "
                "in an enclave nobody looks (--no-dynamic-linker leaves it out)"
            )
            yield Finding(Check.DYNAMIC_LINKER, _WARNING, what, segment.address)
    if elf.text_relocations:
        what = "relocations in code (DT_TEXTREL) make its pages writable"
        yield Finding(Check.WRITABLE_CODE, _WARNING, what)


def _hardening(elf: Elf) -> Iterator[Finding]:
    segments = {segment.type: segment for segment in elf.segments}
    stack = segments.get(SegmentType.GNU_STACK)
    if stack is None or stack.flags & SegmentFlags.X:
        what = "the image asks for an executable stack; link it with -z noexecstack"
        yield Finding(Check.EXECUTABLE_STACK, _WARNING, what)
    if SegmentType.GNU_RELRO not in segments:
        what = "tables of pointers stay writable after the start; link it with -z relro -z now"
        yield Finding(Check.NO_RELRO, _WARNING, what)
    if any(section.name in (".debug_info", ".zdebug_info") for section in elf.sections):
        what = "the file holds debug information, which tells about the source; it is not measured"
        yield Finding(Check.DEBUG_INFORMATION, _INFO, what)


def _relocations(elf: Elf) -> Iterator[Finding]:
    if DynamicTag.REL in elf.dynamic:
        yield Finding(Check.RELOCATION, _ERROR, "there are relocations without addends (DT_REL)")
    counts: Counter[int] = Counter()
    first: dict[int, int] = {}
    for relocation in elf.dynamic_relocations():
        if relocation.type not in (RelocationType.RELATIVE, RelocationType.NONE):
            counts[relocation.type] += 1
            first.setdefault(relocation.type, relocation.address)
    resolved = set(RelocationType)
    if _OUR_RUNTIME in elf.symbols:
        resolved.remove(RelocationType.TPOFF64)
    for kind, count in sorted(counts.items()):
        known = kind in resolved
        what = f"relocations of type {kind}: {count}, which " + (
            "some trusted runtimes resolve, and others not"
            if known
            else "the trusted runtime does not resolve; link with -Bsymbolic and hidden symbols"
        )
        severity = _INFO if known else _ERROR
        yield Finding(Check.RELOCATION, severity, what, first[kind])


def code_findings(elf: Elf, functions: Functions, places: Iterable[Place]) -> Iterator[Finding]:
    """Yield what is wrong with an image's code, one finding for each function and check."""
    groups: dict[tuple[Check, str], list[tuple[int, str]]] = {}
    broken: list[int] = []
    for place in places:
        if place.instruction is None:
            broken += [place.address] * place.certain
        elif name := forbidden(place.instruction):
            check = Check.ILLEGAL_INSTRUCTION if place.certain else Check.LOOKS_ILLEGAL
            check = Check.SGX2_INSTRUCTION if name in _SGX2 else check
            at = functions.name(place.address)
            groups.setdefault((check, at), []).append((place.address, name))
    for (check, at), found in groups.items():
        severity, what = _INSTRUCTIONS[check]
        names = ", ".join(dict.fromkeys(name for _, name in found))
        yield Finding(check, severity, f"{names} {what}", found[0][0], at)
    if broken:
        what = f"data among code, or unknown instructions, hide the rest of {len(broken)} functions"
        yield Finding(Check.NOT_CODE, _WARNING, what, broken[0], functions.name(broken[0]))
    yield from _protector(elf, functions)


def _protector(elf: Elf, functions: Functions) -> Iterator[Finding]:
    """Look for the stack protector by its function's name and, in stripped files, in code."""
    if _PROTECTOR_NAME in elf.symbols:
        return
    if not any(_PROTECTOR.search(code) for _, code in functions.regions):
        what = "no function has a stack protector; compile with -fstack-protector-strong"
        yield Finding(Check.NO_STACK_PROTECTOR, _WARNING, what)
