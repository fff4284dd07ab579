# SPDX-License-Identifier: Apache-2.0
"""Which x86-64 instructions load: what they read from memory reaches a register or the flags.

That is what load value injection (CVE-2020-0551) abuses. Copies from memory to memory (MOVS) are
no loads here, as for assemblers that put LFENCE after every load: the value steers nothing before
it is loaded again. An opcode that this module does not know is taken for a load.
"""

from ensconce.sdk.instruction import Instruction, opcodes

__all__ = ["loads"]

# The one-byte map: POP, POPF, MOV from an absolute address, CMPS, LODS, SCAS, LEAVE, XLAT.
_IMPLICIT = opcodes("58-5f 8f 9d a0-a1 a6-a7 ac-af c9 d7")
_WRITES = opcodes("88-89 8c-8d c6-c7")
_GROUP_5 = {0, 1, 6}  # INC, DEC, PUSH; its CALL and JMP are branches
# What the x87 opcodes D9, DB, DD and DF store, by the extension in ModRM.
_X87_WRITES = {0xD9: {2, 3, 6, 7}, 0xDB: {1, 2, 3, 7}, 0xDD: {1, 2, 3, 6, 7}, 0xDF: {1, 2, 3, 6, 7}}

# The 0F map; the system instructions of 01, prefetches and wide NOPs read nothing that steers.
_0F_QUIET = opcodes("01 0d 11 13 17 18-1f 29 2b 7f 90-9f c3 d6 e7")
_0F_GROUP_15 = {1, 2, 5}  # FXRSTOR, LDMXCSR, XRSTOR
_0F_GROUP_9 = {1, 3}  # CMPXCHG8B, XRSTORS
_0F38_QUIET = opcodes("f5 f8-f9 fc")
_0F3A_QUIET = opcodes("14-17")

# By the map that VEX and EVEX name: stores, scatters, prefetches.
_VECTOR_QUIET = {
    1: opcodes("11 13 17 29 2b 7f 91 d6 e7"),
    2: opcodes("2e-2f 63 8a-8b 8e a0-a3 c6-c7"),
    3: opcodes("14-17 19 1b 1d 39 3b"),
    5: opcodes("11 7e"),
}
_NARROWING = opcodes("10-15 20-25 30-35 4b")  # of map 2, with F3
_MOVE_WORD = 0x7E  # a store, but with F3 a load


def loads(instruction: Instruction) -> bool:
    """Say whether an instruction other than a branch loads from memory."""
    opcode, extension = instruction.opcode, instruction.extension
    if instruction.opcode_map == 0 and opcode in _IMPLICIT:
        return True
    if not instruction.reaches_memory:
        return False
    match instruction.opcode_map:
        case 0:
            if opcode == 0xFF:
                return extension in _GROUP_5
            return opcode not in _WRITES and extension not in _X87_WRITES.get(opcode, ())
        case 0x0F:
            return _loads_0f(opcode, extension, instruction.prefix)
        case 0x0F38:
            if opcode in (0xF1, 0xF6):  # MOVBE and WRSS store; CRC32, ADCX and ADOX load
                return instruction.prefix == 0xF2 or (opcode == 0xF6 and instruction.prefix != 0)
            return opcode not in _0F38_QUIET
        case 0x0F3A:
            return opcode not in _0F3A_QUIET
    return _loads_vector(instruction)


def _loads_0f(opcode: int, extension: int, prefix: int) -> bool:
    if opcode == 0xAE:
        return extension in _0F_GROUP_15
    if opcode == 0xC7:
        return extension in _0F_GROUP_9
    return opcode not in _0F_QUIET and (opcode != _MOVE_WORD or prefix == 0xF3)


def _loads_vector(instruction: Instruction) -> bool:
    opcode, number = instruction.opcode, instruction.vector_map
    if number == 1 and opcode in (0xAE, _MOVE_WORD):
        return instruction.extension == 2 if opcode == 0xAE else instruction.prefix == 0xF3
    if number == 2 and instruction.prefix == 0xF3 and opcode in _NARROWING:
        return False
    return opcode not in _VECTOR_QUIET.get(number, ())
