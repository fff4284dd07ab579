# SPDX-License-Identifier: Apache-2.0
"""What a PCCS keeps: items of collateral and the PCK certificates of platforms, as values."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

from ensconce.errors import FormatError

__all__ = [
    "ROOT_CRL",
    "Item",
    "Key",
    "Kind",
    "PckCertificate",
    "PckList",
    "Platform",
    "Release",
    "TcbKey",
]


class Kind(StrEnum):
    """A kind of collateral."""

    ROOT_CRL = "rootcacrl"
    PCK_CRL = "pckcrl"
    TCB = "tcb"
    IDENTITY = "identity"
    NUMBERS = "tcbevaluationdatanumbers"


class Release(StrEnum):
    """Which of Intel's TCB evaluations is meant: the one that counts, or the next one already."""

    STANDARD = "standard"
    EARLY = "early"


_NUMBERED = "(?:standard|early|0|[1-9][0-9]{0,9})"
_NAMES = {
    Kind.ROOT_CRL: re.compile("root"),
    Kind.PCK_CRL: re.compile("processor|platform"),
    Kind.TCB: re.compile(f"(?:(?:sgx|tdx)/[0-9A-F]{{12}}/{_NUMBERED}|v3/[0-9A-F]{{12}}/standard)"),
    Kind.IDENTITY: re.compile(f"(?:qe|qve|tdqe)/{_NUMBERED}"),
    Kind.NUMBERS: re.compile("sgx|tdx"),
}


class Key(NamedTuple):
    """Which item: a kind and a name within it, such as `sgx/00606A000000/standard`.

    TCB info of PCS v3 has names of its own (`v3/00606A000000/standard`): its text is another one.
    """

    kind: Kind
    name: str

    @classmethod
    def parse(cls, kind: str, name: str) -> Self:
        """Return the key in two words from outside; FormatError if there is no such item."""
        try:
            key = cls(Kind(kind), name)
        except ValueError:
            key = None
        if key is None or not _NAMES[key.kind].fullmatch(name):
            raise FormatError(
                f"{kind[:40]!r} {name[:80]!r} is no item of collateral; `ensconce pccs status` "
                "shows some",
                source="collateral",
            )
        return key

    @property
    def number(self) -> int | None:
        """The TCB evaluation that is asked for by number, None where it is not."""
        last = self.name.rpartition("/")[2]
        return int(last) if self.kind in (Kind.TCB, Kind.IDENTITY) and last.isdigit() else None

    def of(self, release: Release) -> Self:
        """Return the key of the same thing in another release."""
        return self._replace(name=self.name.rpartition("/")[0] + "/" + release)

    def __str__(self) -> str:
        return self.kind if self.name == "root" else f"{self.kind} {self.name}"


ROOT_CRL = Key(Kind.ROOT_CRL, "root")


class TcbKey(NamedTuple):
    """A TCB of a platform: CPUSVN in hex (32 digits) and PCESVN, little-endian (4 digits)."""

    cpu_svn: str
    pce_svn: str

    @property
    def values(self) -> tuple[int, ...]:
        """The 16 SVNs of CPUSVN and PCESVN, to be compared one by one."""
        return (*bytes.fromhex(self.cpu_svn), self.pce_value)

    @property
    def pce_value(self) -> int:
        """PCESVN as a number."""
        return int.from_bytes(bytes.fromhex(self.pce_svn), "little")


@dataclass(frozen=True, slots=True)
class Item:
    """Collateral that was found genuine, byte for byte as it was published.

    `chain` is its issuer's, in PEM (none for the root's CRL). `number` is the TCB evaluation's or
    the CRL's, 0 where it has none; times are Unix seconds.
    """

    key: Key
    body: bytes
    chain: str
    number: int
    issued: int
    expires: int

    @property
    def order(self) -> tuple[int, int]:
        """What only rises from one version to the next."""
        return (self.number, self.issued)


class PckCertificate(NamedTuple):
    """A PCK certificate in PEM and the TCB it is for (`tcbm`: CPUSVN and PCESVN, 36 digits)."""

    tcbm: str
    pem: str


@dataclass(frozen=True, slots=True)
class PckList:
    """PCK certificates of one platform, found genuine, with the chain of their authority in PEM.

    `complete` says whether they are all there are, so that the best one can be chosen among them;
    else each is an answer to one question.
    """

    fmspc: str
    ca: str
    chain: str
    certificates: tuple[PckCertificate, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform as it registers: identifiers in upper-case hex, empty where it gave none."""

    qe_id: str
    pce_id: str
    cpu_svn: str = ""
    pce_svn: str = ""
    enc_ppid: str = ""
    platform_manifest: str = ""

    @property
    def tcb(self) -> TcbKey | None:
        """The TCB that the platform says it has, if it says so."""
        return TcbKey(self.cpu_svn, self.pce_svn) if self.cpu_svn and self.pce_svn else None
