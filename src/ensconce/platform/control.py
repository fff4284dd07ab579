# SPDX-License-Identifier: Apache-2.0
"""Ask a node's platform how it goes: one JSON object each way, over SOCK_SEQPACKET.

Any message makes the platform look at the allocations at once, and its answer tells of them.
"""

import json
import socket
from dataclasses import dataclass
from pathlib import Path

from ensconce.errors import ProtocolError

__all__ = ["LONGEST", "Standing", "Use", "ask"]

LONGEST = 1 << 17


@dataclass(frozen=True, slots=True)
class Use:
    """What an allocation takes now: bytes of EPC, its limit, the most so far, enclaves."""

    epc: int
    used: int
    peak: int
    enclaves: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A node's platform: its EPC in bytes and the use of each allocation that is served."""

    platform_id: str
    epc: int
    allocations: dict[str, Use]

    @classmethod
    def parse(cls, data: bytes) -> "Standing":
        """Read an answer. Raises ProtocolError."""
        try:
            fields = json.loads(data)
            uses = {
                str(name): Use(*(int(value) for value in use))
                for name, use in fields["allocations"].items()
            }
            return cls(str(fields["platform_id"]), int(fields["epc"]), uses)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ProtocolError("the node's platform gave an answer that is none") from error

    def __bytes__(self) -> bytes:
        uses = {
            name: (use.epc, use.used, use.peak, use.enclaves)
            for name, use in self.allocations.items()
        }
        fields = {"platform_id": self.platform_id, "epc": self.epc, "allocations": uses}
        return json.dumps(fields).encode()


def ask(path: Path, *, timeout: float = 2.0) -> Standing:
    """Have the platform look at the allocations; return how it stands. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        connection.send(b"{}")
        return Standing.parse(connection.recv(LONGEST))
