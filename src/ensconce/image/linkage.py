# SPDX-License-Identifier: Apache-2.0
"""What an enclave's ELF file must not hold to be signed: nothing that nobody would resolve."""

from ensconce.image.elf import DynamicTag, RelocationType, SectionFlags
from ensconce.image.enclave_elf import EnclaveElf
from ensconce.image.page import Mode

__all__ = ["check_linkage"]

_SHT_RELA = 4
_SHOWN = 5
_RESOLVED = frozenset(RelocationType)


def check_linkage(
    file: EnclaveElf, *, text_relocations_allowed: bool = False, init_section_allowed: bool = False
) -> None:
    """Raise `FormatError` for a file that could be signed and could not run.

    The trusted runtime relocates the enclave and runs .init_array; it has no loader for other
    objects, does not run .init or .ctors, and code pages that must be written are a risk.
    """
    _check_symbols(file)
    _check_relocations(file)
    if file.elf.section(".ctors") is not None:
        raise file.error("has a section .ctors, whose functions nobody calls; use .init_array")
    if file.elf.section(".init") is not None and not init_section_allowed:
        raise file.error(
            "has a section .init, whose code nobody runs; link it with -nostartfiles, "
            "or allow it with -ignore-init-sec-error"
        )
    if not text_relocations_allowed and (found := _text_relocations(file)):
        raise file.error(
            f"has relocations in code at {_shown(found)}; compile it with -fPIC, "
            "or allow them with -ignore-rel-error",
        )
    if file.mode is Mode.SIM and file.holds_enclu:
        raise file.error(
            "mixes the simulation library with code for an SGX processor; link one runtime only"
        )


def _check_symbols(file: EnclaveElf) -> None:
    """Check that nothing is left for other objects to define."""
    missing = [
        symbol.name
        for symbol in file.elf.dynamic_symbols
        if not symbol.section and not symbol.weak and symbol.name
    ]
    if missing:
        names = ", ".join(missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise file.error(f"does not define {names}{more}; link the library that does")


def _check_relocations(file: EnclaveElf) -> None:
    """Check that the runtime can apply every relocation."""
    if DynamicTag.REL in file.elf.dynamic:
        raise file.error("has relocations without addends, which x86-64 does not use")
    for relocation in file.elf.dynamic_relocations():
        if relocation.type not in _RESOLVED:
            raise file.error(
                f"has a relocation of type {relocation.type} at {relocation.address:#x}, "
                "which the trusted runtime can't apply",
                relocation.file_offset,
            )


def _text_relocations(file: EnclaveElf) -> list[int]:
    """Return the addresses of relocations in executable sections."""
    code = [
        (section.address, section.address + section.size)
        for section in file.elf.sections
        if section.flags & SectionFlags.EXECINSTR
    ]
    found: list[int] = []
    for section in file.elf.sections:
        if section.type != _SHT_RELA:
            continue
        found += (
            relocation.address
            for relocation in file.elf.section_relocations(section)
            if any(start <= relocation.address < end for start, end in code)
        )
    return found


def _shown(addresses: list[int]) -> str:
    """Return the first addresses of a list as text."""
    more = ", …" if len(addresses) > _SHOWN else ""
    return ", ".join(f"{address:#x}" for address in addresses[:_SHOWN]) + more
