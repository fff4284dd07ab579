# SPDX-License-Identifier: Apache-2.0
"""Refuse roll-back: numbers of collateral only rise, and the last ones are kept.

Old collateral is signed as well as new; whoever serves it can hide a revocation until it expires.
"""

import fcntl
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from ensconce.dcap.epoch import Epoch
from ensconce.dcap.verdict import Reason, Refusal
from ensconce.errors import ConfigError

__all__ = ["Watermarks"]


class Watermarks:
    """The highest evaluation number per FMSPC and TEE, and CRL number per CA, that were seen."""

    def __init__(self, marks: dict[str, int] | None = None) -> None:
        self._marks = dict(marks or {})
        self._lock = threading.Lock()

    def rise(self, epoch: Epoch) -> None:
        """Keep an epoch's numbers; Refusal (step 9), and nothing kept, if one is lower."""
        numbers = dict(_numbers(epoch))
        with self._lock:
            for name, number in numbers.items():
                last = self._marks.get(name, number)
                if number < last:
                    raise Refusal(
                        9, Reason.COLLATERAL_ROLLED_BACK, f"{name} was {last} and is {number}"
                    )
            self._marks |= numbers

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the numbers kept in a file, none if there is no such file yet."""
        try:
            marks = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except ValueError as error:
            raise _broken(path) from error
        if not isinstance(marks, dict) or not all(type(mark) is int for mark in marks.values()):
            raise _broken(path)
        return cls(marks)

    def save(self, path: Path) -> None:
        """Write the numbers to a file, whole or not at all, and none lower than it holds.

        Programs that save at the same time wait for each other, by a lock on the folder.
        """
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            with self._lock:
                for name, number in self.load(path)._marks.items():
                    self._marks[name] = max(number, self._marks.get(name, number))
                text = json.dumps(self._marks, indent=1, sort_keys=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(path)
        finally:
            os.close(folder)


def _numbers(epoch: Epoch) -> Iterator[tuple[str, int]]:
    """Yield the numbers of an epoch with what they count."""
    info, root = epoch.tcb_info, epoch.root.fingerprint.hex()[:16]
    place = f"{root}/{info.tee.name}/{info.fmspc.hex()}"
    yield f"{place}/tcb_evaluation_data_number", epoch.tcb_evaluation_data_number
    for crl, name in ((epoch.root_crl, "root_ca"), (epoch.pck_crl, epoch.pck_ca_kind.name)):
        if crl.number is not None:
            yield f"{root}/{name.lower()}/crl_number", crl.number


def _broken(path: Path) -> ConfigError:
    """Return the error of a file that holds no numbers."""
    return ConfigError(
        f"{path} does not hold the numbers of collateral seen before; restore it, or remove it to "
        "start anew and accept any"
    )
