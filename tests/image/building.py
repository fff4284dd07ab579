# SPDX-License-Identifier: Apache-2.0
"""Small enclave files, built byte by byte, for the tests of readers and signer."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import rsa

from ensconce.image.config import EnclaveConfig
from ensconce.image.enclave_elf import EnclaveElf
from ensconce.image.generation import GENERATIONS, Generation
from ensconce.image.signing import prepare
from ensconce.image.sigstruct import key_signer, sign_sigstruct

ENCLU = b"\x0f\x01\xd7"
PAGE = 4096
DATE = 0x20240229
SMALL = EnclaveConfig(
    tcs_num=2, stack_max_size=0x4000, heap_max_size=0x10000, misc_select=0, isv_prod_id=7, isv_svn=3
)

_TEXT, _DATA, _DATA_ADDRESS = 0x1000, 0x4000, 0x8000
_GLOBAL_DATA, _ENTRY = _DATA_ADDRESS + 0xF40, 0x1000
_NOTE_NAME = b"sgx_metadata\0"


@dataclass(frozen=True)
class Symbol:
    """A symbol of .dynsym; section 0 is undefined."""

    name: str
    value: int = 0
    size: int = 0
    section: int = 1
    binding: int = 1


@dataclass(frozen=True)
class Relocation:
    """A row of .rela.dyn."""

    address: int
    type: int = 8


@dataclass
class EnclaveFile:
    """What goes into an enclave's ELF file; `bytes()` links it.

    The first segment holds headers and code, 0x3800 bytes; the second starts in the middle of a
    page at 0x8f40 with g_global_data, has 0x1800 bytes and as much .bss.
    """

    generation: Generation = GENERATIONS[-1]
    code: bytes = ENCLU
    symbols: Sequence[Symbol] = ()
    relocations: Sequence[Relocation] = ()
    text_relocations: bool = False
    tls: tuple[int, int] | None = None
    sections: Sequence[tuple[str, int, int]] = ()
    note_name: bytes = _NOTE_NAME
    note_size: int | None = None
    text_flags: int = 5
    data_flags: int = 6
    data_memory: int = 0x3000
    release: bytes = b""
    extra: bytes = b""
    _strings: bytearray = field(default_factory=lambda: bytearray(b"\0"))

    def __bytes__(self) -> bytes:
        image = bytearray(_DATA + 0xF40 + 0x1800)
        image[_TEXT : _TEXT + 0x2800] = bytes(i * 7 & 0x7F for i in range(0x2800))
        image[_TEXT : _TEXT + len(self.code)] = self.code
        release = self.release or b"SGX_TRTS_VERSION_%d.%d.%d" % self.generation.sdk
        image[0x3000 : 0x3000 + len(release)] = release
        data = _DATA + 0xF40
        image[data : data + 0x1800] = bytes(1 + i % 251 for i in range(0x1800))
        major, minor, revision = self.generation.sdk
        word = major << 32 | minor << 16 | revision
        image[data : data + self.generation.global_data_size] = word.to_bytes(8, "little").ljust(
            self.generation.global_data_size, b"\0"
        )
        dynamic = self._tables(image)
        return self._link(image, dynamic)

    def _tables(self, image: bytearray) -> tuple[int, int]:
        """Write the dynamic tables into the first page; return where .dynamic is."""
        size = self.generation.global_data_size
        symbols = [
            Symbol("enclave_entry", _ENTRY, len(self.code)),
            Symbol("g_global_data", _GLOBAL_DATA, size),
            *self.symbols,
        ]
        table, names = bytearray(24), bytearray(b"\0")
        for symbol in symbols:
            info, name = symbol.binding << 4, len(names)
            names += symbol.name.encode() + b"\0"
            table += struct.pack(
                "<IBBHQQ", name, info, 0, symbol.section, symbol.value, symbol.size
            )
        rela = b"".join(struct.pack("<QQq", row.address, row.type, 0) for row in self.relocations)
        at = 0x300
        image[at : at + len(table)] = table
        strings = at + len(table)
        image[strings : strings + len(names)] = names
        start = strings + len(names) + 7 & ~7
        image[start : start + len(rela)] = rela
        dynamic = start + len(rela)
        rows = [(6, at), (5, strings), (7, start), (8, len(rela))]
        rows += [(22, 0)] if self.text_relocations else []
        content = b"".join(struct.pack("<qQ", *row) for row in [*rows, (0, 0)])
        image[dynamic : dynamic + len(content)] = content
        self._places = (at, len(table), strings, len(names), start, len(rela))
        return dynamic, len(content)

    def _link(self, image: bytearray, dynamic: tuple[int, int]) -> bytes:
        """Append the note and the section headers, and write the headers."""
        symbols, symbols_size, strings, strings_size, rela, rela_size = self._places
        room = self.generation.room if self.note_size is None else self.note_size
        note = struct.pack("<III", len(self.note_name), room, 1) + self.note_name + bytes(room)
        image += bytes(-len(image) % 4 + 4)
        note_at = len(image)
        image += note
        names = bytearray(b"\0")
        headers = [bytes(64)]

        def section(
            name: str, kind: int, flags: int, address: int, at: int, size: int, link: int = 0
        ) -> None:
            headers.append(
                struct.pack(
                    "<IIQQQQIIQQ", len(names), kind, flags, address, at, size, link, 0, 1, 24
                )
            )
            names.extend(name.encode() + b"\0")

        section(".text", 1, 6, _TEXT, _TEXT, 0x2800)
        section(".dynsym", 11, 2, symbols, symbols, symbols_size, 3)
        section(".dynstr", 3, 2, strings, strings, strings_size)
        section(".rela.dyn", 4, 2, rela, rela, rela_size, 2)
        section(".data", 1, 3, _GLOBAL_DATA, _DATA + 0xF40, 0x1800)
        section(".note.sgxmeta", 7, 0, 0, note_at, len(note))
        for name, kind, flags in self.sections:
            section(name, kind, flags, 0, 0x2000, 16)
        section(".shstrtab", 3, 0, 0, len(image), 0)
        table = len(image)
        names_at = table + 64 * len(headers)
        last = list(struct.unpack("<IIQQQQIIQQ", headers[-1]))
        last[4:6] = [names_at, len(names)]
        headers[-1] = struct.pack("<IIQQQQIIQQ", *last)
        image += b"".join(headers) + names + self.extra
        self._headers(image, dynamic, table, len(headers))
        return bytes(image)

    def _headers(
        self, image: bytearray, dynamic: tuple[int, int], table: int, sections: int
    ) -> None:
        """Write the ELF header and the program headers."""
        at, size = dynamic
        data, whole = _DATA + 0xF40, self.data_memory
        rows = [
            (1, self.text_flags, 0, 0, 0, 0x3800, 0x3800, PAGE),
            (1, self.data_flags, data, _GLOBAL_DATA, _GLOBAL_DATA, 0x1800, whole, PAGE),
            (2, 4, at, at, at, size, size, 8),
        ]
        if self.tls is not None:
            rows.append((7, 4, 0x3000, 0x3000, 0x3000, 8, *self.tls))
        image[:64] = struct.pack(
            "<16sHHIQQQIHHHHHH",
            b"\x7fELF\x02\x01\x01",
            *(3, 62, 1, _ENTRY, 64, table, 0, 64, 56, len(rows)),
            *(64, sections, sections - 1),
        )
        segments = b"".join(struct.pack("<IIQQQQQQ", *row) for row in rows)
        image[64 : 64 + len(segments)] = segments


def signed(
    key: rsa.RSAPrivateKey,
    config: EnclaveConfig = SMALL,
    file: EnclaveFile | None = None,
    *,
    checks: bool = True,
) -> bytes:
    """Return an enclave file, signed; without `checks` its linkage may be what it likes."""
    content = bytearray(bytes(file or EnclaveFile()))
    elf = EnclaveElf(memoryview(bytes(content)), "the test's enclave")
    prepared = prepare(
        elf,
        config,
        date=DATE,
        text_relocations_allowed=not checks,
        init_section_allowed=not checks,
    )
    sigstruct = sign_sigstruct(prepared.sigstruct, key.public_key(), key_signer(key))
    note = prepared.note(sigstruct)
    content[elf.note_offset : elf.note_offset + len(note)] = note
    return bytes(content)


def patched(content: bytes, offset: int, *values: tuple[str, int]) -> bytes:
    """Return a file with integers of struct formats written one after the other."""
    changed = bytearray(content)
    for form, value in values:
        struct.pack_into("<" + form, changed, offset, value)
        offset += struct.calcsize("<" + form)
    return bytes(changed)
