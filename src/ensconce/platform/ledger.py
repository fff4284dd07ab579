# SPDX-License-Identifier: Apache-2.0
"""What the test PCS has announced: TCB levels, an evaluation number, revoked certificates.

It is kept in a JSON file beside the platform's identity and holds no secret. Whoever plays a TCB
recovery or a revocation changes it; keys and certificates follow from the identity alone.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from ensconce.dcap.verdict import TcbStatus
from ensconce.errors import FormatError
from ensconce.isa.record import BytesLike
from ensconce.machine import identity
from ensconce.machine.identity import CPU_SVN_BYTES, Identity
from ensconce.platform.roles import PCE_SVN

__all__ = [
    "Ledger",
    "TcbLevel",
    "changing_ledger",
    "ledger_path",
    "load_ledger",
    "when",
    "word",
]

_VERSION = 1
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_SERIAL_BITS = 159
_DATE = "%Y-%m-%dT%H:%M:%SZ"
_FIRST_EVALUATION = 1
_FIRST_DATE = datetime(2026, 1, 1, tzinfo=UTC)


def word(time: datetime) -> str:
    """Return a time as the PCS writes it: ISO 8601, in UTC, to the second."""
    return time.astimezone(UTC).strftime(_DATE)


def when(text: str) -> datetime:
    """Return the time that the PCS wrote so. Raises ValueError."""
    return datetime.strptime(text, _DATE).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TcbLevel:
    """A TCB level: platforms at these SVNs or higher have this status."""

    cpu_svn: bytes
    status: TcbStatus
    date: datetime
    pce_svn: int = PCE_SVN
    advisories: tuple[str, ...] = ()


@dataclass
class Ledger:
    """What has been announced so far; `levels` are in order, the highest first."""

    platform_id: bytes
    levels: list[TcbLevel]
    evaluation: int = _FIRST_EVALUATION
    revoked: dict[int, datetime] = field(default_factory=dict)

    @classmethod
    def initial(cls, platform: Identity) -> Self:
        """Return the ledger of a platform for which nothing has been announced yet."""
        lowest = TcbLevel(bytes(CPU_SVN_BYTES), TcbStatus.OUT_OF_DATE, _FIRST_DATE, pce_svn=0)
        present = TcbLevel(platform.cpu_svn, TcbStatus.UP_TO_DATE, _FIRST_DATE)
        return cls(platform.platform_id, [present, lowest])

    def advance(self, platform: Identity, now: datetime, advisories: tuple[str, ...]) -> None:
        """Announce a TCB recovery: what was up to date no longer is, for the advisories' reasons.

        The new level is the platform's where it is above the highest one already, and else the
        one that the platform's next recovery takes it to.
        """
        highest = self.levels[0].cpu_svn
        ahead = any(svn > old for svn, old in zip(platform.cpu_svn, highest, strict=True))
        wanted = platform.cpu_svn if ahead else platform.recovered().cpu_svn
        cpu_svn = bytes(map(max, wanted, highest))
        older = [
            TcbLevel(
                level.cpu_svn,
                TcbStatus.OUT_OF_DATE if level.status is TcbStatus.UP_TO_DATE else level.status,
                level.date,
                level.pce_svn,
                tuple(dict.fromkeys((*level.advisories, *advisories))),
            )
            for level in self.levels
        ]
        self.levels = [TcbLevel(cpu_svn, TcbStatus.UP_TO_DATE, now), *older]
        self.evaluation += 1

    def __bytes__(self) -> bytes:
        """Return the ledger as a file."""
        fields = {
            "ensconce_pcs": _VERSION,
            "platform_id": self.platform_id.hex(),
            "evaluation": self.evaluation,
            "levels": [
                {
                    "cpu_svn": level.cpu_svn.hex(),
                    "pce_svn": level.pce_svn,
                    "status": level.status.value,
                    "date": word(level.date),
                    "advisories": level.advisories,
                }
                for level in self.levels
            ],
            "revoked": {f"{serial:x}": word(since) for serial, since in self.revoked.items()},
        }
        return json.dumps(fields, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, data: BytesLike, *, source: str = "PCS ledger") -> Self:
        """Return the ledger in a file's bytes. Raises FormatError."""
        try:
            fields: dict[str, Any] = json.loads(bytes(data))
            if fields.pop("ensconce_pcs") != _VERSION:
                raise ValueError
            made = cls(
                bytes.fromhex(fields.pop("platform_id")),
                [_level(**level) for level in fields.pop("levels")],
                int(fields.pop("evaluation")),
                {_serial(text): when(since) for text, since in fields.pop("revoked").items()},
            )
            if fields or not made.levels:
                raise ValueError
        except _UNREADABLE:
            raise FormatError(
                f"{source} is not a test PCS's ledger of version {_VERSION}; remove it to start "
                "anew",
                source=source,
            ) from None
        return made


def _level(
    *, cpu_svn: str, pce_svn: int, status: str, date: str, advisories: list[str]
) -> TcbLevel:
    """Return a level from its fields in a file. Raises ValueError, TypeError."""
    svns = bytes.fromhex(cpu_svn)
    if len(svns) != CPU_SVN_BYTES:
        raise ValueError(cpu_svn)
    return TcbLevel(svns, TcbStatus(status), when(date), int(pce_svn), tuple(map(str, advisories)))


def _serial(text: str) -> int:
    """Return a certificate's serial number from hexadecimal digits. Raises ValueError."""
    serial = int(text, 16)
    if not 0 < serial < 1 << _SERIAL_BITS:
        raise ValueError(text)
    return serial


def ledger_path(platform: Path) -> Path:
    """Return where the ledger of the platform with its identity at a path lies."""
    return platform.with_name(platform.name + ".pcs")


def load_ledger(path: Path, found: Identity) -> Ledger:
    """Read a platform's ledger, and make it the first time; two that ask at once get the same one.

    `path` is the identity's. What was announced for an identity that was there before is not
    taken over. Raises ConfigError, FormatError.
    """
    where = ledger_path(path)
    made = Ledger.initial(found)
    with contextlib.suppress(FileExistsError):
        identity.write_private(where, bytes(made))
    ledger = Ledger.parse(identity.read_private(where), source=str(where))
    if ledger.platform_id != found.platform_id:
        identity.write_private(where, bytes(made), overwrite=True)
        return made
    return ledger


@contextlib.contextmanager
def changing_ledger(path: Path, found: Identity) -> Iterator[Ledger]:
    """Give a platform's ledger to change, one process after the other, and write it back."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        ledger = load_ledger(path, found)
        yield ledger
        identity.write_private(ledger_path(path), bytes(ledger), overwrite=True)
    finally:
        os.close(folder)
