# SPDX-License-Identifier: Apache-2.0
"""What a lint of an enclave's image can find, and how bad each is."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

__all__ = ["Check", "Finding", "Severity"]


class Severity(IntEnum):
    """ERROR: the enclave cannot start, or will fault. WARNING: it runs, and should be better."""

    INFO = 0
    WARNING = 1
    ERROR = 2


class Check(StrEnum):
    """The checks, by the names that allow them."""

    ILLEGAL_INSTRUCTION = "illegal-instruction"
    LOOKS_ILLEGAL = "looks-illegal"
    SGX2_INSTRUCTION = "sgx2-instruction"
    NOT_CODE = "not-code"
    RELOCATION = "relocation"
    LINKAGE = "linkage"
    MISSING_SYMBOL = "missing-symbol"
    NO_METADATA_ROOM = "no-metadata-room"
    SIMULATION = "simulation"
    WRITABLE_CODE = "writable-code"
    DYNAMIC_LINKER = "dynamic-linker"
    EXECUTABLE_STACK = "executable-stack"
    NO_RELRO = "no-relro"
    NO_STACK_PROTECTOR = "no-stack-protector"
    LVI = "lvi"
    DEBUG_LAUNCH = "debug-launch"
    DEBUG_INFORMATION = "debug-information"
    UNUSED_ALLOW = "unused-allow"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of an image, at which address and in which function when it has a place."""

    check: Check
    severity: Severity
    what: str
    address: int = 0
    symbol: str = ""

    def __str__(self) -> str:
        place = f" at {self.address:#x}" if self.address else ""
        name = f" in {self.symbol}" if self.symbol else ""
        return f"{self.severity.name.lower()}: {self.what}{place}{name} [{self.check}]"
