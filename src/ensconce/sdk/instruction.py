# SPDX-License-Identifier: Apache-2.0
"""x86-64 instructions: how long they are, and whether an enclave may execute them.

Only lengths and opcodes are decoded (SDM vol. 2A, chapter 2, and the opcode maps of vol. 2D,
appendix A): that needs no table per instruction, so VEX and EVEX encodings of any extension are
walked over correctly whether this code knows them or not.
"""

from typing import NamedTuple

__all__ = ["Instruction", "decode", "forbidden", "opcodes"]

_MAX_LENGTH = 15

_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
_OPERAND_SIZE, _ADDRESS_SIZE = 0x66, 0x67
_VECTOR_PREFIXES = (0, 0x66, 0xF3, 0xF2)  # by the two bits of a VEX or EVEX prefix


def opcodes(text: str) -> frozenset[int]:
    """Return the opcodes of a list such as "00-03 0f"."""
    found: set[int] = set()
    for part in text.split():
        first, _, last = part.partition("-")
        found |= set(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(found)


# The one-byte map, in 64-bit mode.
_INVALID = opcodes("06 07 0e 16 17 1e 1f 27 2f 37 3f 60-61 82 9a c4-c5 ce d4-d6 ea")
_MODRM = opcodes(
    "00-03 08-0b 10-13 18-1b 20-23 28-2b 30-33 38-3b 63 69 6b 80-81 83-8f c0-c1 c6-c7 d0-d3 d8-df"
    " f6-f7 fe-ff"
)
_BYTE = opcodes("04 0c 14 1c 24 2c 34 3c 6a 6b 70-7f 80 83 a8 b0-b7 c0-c1 c6 cd e0-e7 eb")
_WORD_OR_LONG = opcodes("05 0d 15 1d 25 2d 35 3d 68 69 81 a9 b8-bf c7")
_LONG = opcodes("e8-e9")
_OFFSET = opcodes("a0-a3")
_ENTER, _RETURNS = 0xC8, opcodes("c2 ca")

# The 0F map.
_0F_INVALID = opcodes("04 0a 0c 24-27 36 39 3b-3f")
_0F_PLAIN = opcodes("05-09 0b 0e 30-35 37 77 a0-a2 a8-aa c8-cf")
_0F_BYTE = opcodes("0f 70-73 a4 ac ba c2 c4-c6")
_0F_LONG = opcodes("80-8f")


class Instruction(NamedTuple):
    """Where an instruction's parts are; `opcode_map` is 0, 0x0F, 0x0F38, 0x0F3A or -1 for VEX.

    `prefix` is the one that chooses among instructions of an opcode: 0, 0x66, 0xF2 or 0xF3, outside
    the one-byte map only. `vector_map` is the map that a VEX or EVEX prefix names.
    """

    length: int
    opcode_map: int
    opcode: int
    modrm: int | None
    prefix: int = 0
    vector_map: int = 0

    @property
    def reaches_memory(self) -> bool:
        """Whether ModRM names an operand in memory."""
        return self.modrm is not None and self.modrm < 0xC0

    @property
    def extension(self) -> int:
        """The three bits of ModRM that some opcodes continue in."""
        return (self.modrm or 0) >> 3 & 7


def decode(code: bytes, at: int = 0) -> Instruction | None:
    """Return the instruction at an offset; None for bytes that are none, or cut short."""
    try:
        found = _decode(code, at)
    except IndexError:
        return None
    if found is None or found.length > _MAX_LENGTH or at + found.length > len(code):
        return None
    return found


def _decode(code: bytes, start: int) -> Instruction | None:
    at = start
    while code[at] in _PREFIXES:
        at += 1
    prefixes = code[start:at]
    rex = code[at] if 0x40 <= code[at] <= 0x4F else 0
    at += bool(rex)
    opcode = code[at]
    if opcode in (0xC4, 0xC5, 0x62):
        return None if rex else _vector(code, start, at)
    if opcode == 0x0F:
        return _two_bytes(code, start, at + 1, _chosen(prefixes))
    if opcode in _INVALID:
        return None
    at += 1
    modrm = code[at] if opcode in _MODRM else None
    if modrm is not None:
        at += _operand(code, at)
    return Instruction(at + _immediate(opcode, modrm, prefixes, rex) - start, 0, opcode, modrm)


def _immediate(opcode: int, modrm: int | None, prefixes: bytes, rex: int) -> int:
    """Return the size of the immediate value of an opcode of the one-byte map."""
    wide = bool(rex & 8)
    word = 2 if _OPERAND_SIZE in prefixes and not wide else 4
    if opcode in (0xF6, 0xF7):  # only TEST has one
        return 0 if (modrm or 0) & 0x30 else 1 if opcode == 0xF6 else word
    if opcode in _BYTE:
        return 1
    if opcode in _WORD_OR_LONG:
        return 8 if wide and 0xB8 <= opcode <= 0xBF else word
    if opcode in _LONG:
        return 4
    if opcode in _OFFSET:
        return 4 if _ADDRESS_SIZE in prefixes else 8
    if opcode in _RETURNS:
        return 2
    return 3 if opcode == _ENTER else 0


def _chosen(prefixes: bytes) -> int:
    """Return the prefix that chooses the instruction: a repetition goes before 66."""
    last = max(prefixes.rfind(b"\xf2"), prefixes.rfind(b"\xf3"))
    return prefixes[last] if last >= 0 else _OPERAND_SIZE if _OPERAND_SIZE in prefixes else 0


def _two_bytes(code: bytes, start: int, at: int, prefix: int) -> Instruction | None:
    """Decode from the byte after 0F on."""
    opcode = code[at]
    at += 1
    if opcode in (0x38, 0x3A):
        long_opcode, modrm = code[at], code[at + 1]
        at += 1 + _operand(code, at + 1) + (opcode == 0x3A)
        return Instruction(at - start, 0x0F00 | opcode, long_opcode, modrm, prefix)
    if opcode in _0F_INVALID:
        return None
    if opcode in _0F_PLAIN or opcode in _0F_LONG:
        at += 4 if opcode in _0F_LONG else 0
        return Instruction(at - start, 0x0F, opcode, None)
    modrm = code[at]
    at += _operand(code, at) + (opcode in _0F_BYTE)
    return Instruction(at - start, 0x0F, opcode, modrm, prefix)


def _vector(code: bytes, start: int, at: int) -> Instruction | None:
    """Decode a VEX or EVEX instruction from its first byte on."""
    kind = code[at]
    size, bits = {0xC5: (2, 0), 0xC4: (3, 0x1F), 0x62: (4, 0x07)}[kind]
    opcode_map = code[at + 1] & bits if bits else 1
    prefix = _VECTOR_PREFIXES[code[at + (2 if kind == 0x62 else size - 1)] & 3]
    at += size
    opcode = code[at]
    at += 1
    if opcode_map == 0 or opcode_map > 7:
        return None
    if kind != 0x62 and opcode_map == 1 and opcode == 0x77:
        return Instruction(at - start, -1, opcode, None, prefix, opcode_map)
    modrm = code[at]
    at += _operand(code, at)
    at += opcode_map == 3 or (opcode_map == 1 and opcode in _0F_BYTE)
    return Instruction(at - start, -1, opcode, modrm, prefix, opcode_map)


def _operand(code: bytes, at: int) -> int:
    """Return the size of ModRM, SIB and displacement."""
    modrm = code[at]
    mode, register = modrm >> 6, modrm & 7
    if mode == 3:
        return 1
    size = 1
    if register == 4:
        size += 1
        if mode == 0 and code[at + 1] & 7 == 5:
            return size + 4
    elif mode == 0 and register == 5:
        return size + 4
    return size + (0, 1, 4)[mode]


# What faults in an enclave (SDM vol. 3D, table 35-1), or is the kernel's alone.
_ONE_BYTE = {
    0x6C: "INS", 0x6D: "INS", 0x6E: "OUTS", 0x6F: "OUTS", 0x8E: "MOV to a segment register",
    0xCA: "far RET", 0xCB: "far RET", 0xCD: "INT", 0xCF: "IRET", 0xE4: "IN", 0xE5: "IN",
    0xE6: "OUT", 0xE7: "OUT", 0xEC: "IN", 0xED: "IN", 0xEE: "OUT", 0xEF: "OUT", 0xF1: "INT1",
    0xF4: "HLT", 0xFA: "CLI", 0xFB: "STI",
}  # fmt: skip
_TWO_BYTES = {
    0x05: "SYSCALL", 0x06: "CLTS", 0x07: "SYSRET", 0x08: "INVD", 0x09: "WBINVD",
    0x20: "MOV from a control register", 0x21: "MOV from a debug register",
    0x22: "MOV to a control register", 0x23: "MOV to a debug register", 0x30: "WRMSR",
    0x31: "RDTSC", 0x32: "RDMSR", 0x33: "RDPMC", 0x34: "SYSENTER", 0x35: "SYSEXIT",
    0x37: "GETSEC", 0xA1: "POP FS", 0xA2: "CPUID", 0xA9: "POP GS", 0xB2: "LSS", 0xB4: "LFS",
    0xB5: "LGS",
}  # fmt: skip
_GROUP_6 = {0: "SLDT", 1: "STR", 2: "LLDT", 3: "LTR"}
_GROUP_7_MEMORY = {
    0: "SGDT", 1: "SIDT", 2: "LGDT", 3: "LIDT", 4: "SMSW", 6: "LMSW", 7: "INVLPG",
}  # fmt: skip
_GROUP_7 = {
    0xC1: "VMCALL", 0xC2: "VMLAUNCH", 0xC3: "VMRESUME", 0xC4: "VMXOFF", 0xC8: "MONITOR",
    0xC9: "MWAIT", 0xCA: "CLAC", 0xCB: "STAC", 0xCF: "ENCLS", 0xD1: "XSETBV", 0xD4: "VMFUNC",
    0xF8: "SWAPGS", 0xF9: "RDTSCP",
}  # fmt: skip
_FAR = {3: "far CALL", 5: "far JMP"}


def forbidden(instruction: Instruction) -> str | None:
    """Return the name of an instruction that faults in an enclave; None for all others."""
    modrm, opcode, extension = instruction.modrm, instruction.opcode, instruction.extension
    if instruction.opcode_map == 0:
        return _FAR.get(extension) if opcode == 0xFF else _ONE_BYTE.get(opcode)
    if instruction.opcode_map != 0x0F:
        return None
    if opcode == 0x00:
        return _GROUP_6.get(extension)
    if opcode != 0x01 or modrm is None:
        return _TWO_BYTES.get(opcode)
    if modrm >> 6 != 3:
        return _GROUP_7_MEMORY.get(extension)
    # SMSW and LMSW have register forms as well.
    return _GROUP_7.get(modrm) or (_GROUP_7_MEMORY[extension] if extension in (4, 6) else None)
