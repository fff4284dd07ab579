# SPDX-License-Identifier: Apache-2.0
"""How a command of this runtime talks to the process that holds a pod's machine."""

import contextlib
import json
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ensconce.errors import DeviceError

__all__ = ["Talk", "connect", "listen"]

_NAME = "pod.sock"


class Talk:
    """A connection to a pod's process: requests out, events in."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._line = bytearray()

    def ask(self, request: dict[str, Any], files: Sequence[int] = ()) -> None:
        """Send a request, with descriptors."""
        line = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(self.connection, [line], list(files)) if files else 0
        self.connection.sendall(line[sent:])

    def events(self) -> Iterable[dict[str, Any]]:
        """Yield events until the pod's process closes the connection."""
        while True:
            while b"\n" in self._line:
                line, _, rest = bytes(self._line).partition(b"\n")
                self._line = bytearray(rest)
                yield json.loads(line)
            try:
                data = self.connection.recv(65536)
            except ConnectionResetError:
                return
            if not data:
                return
            self._line += data

    def expect(self, *wanted: str) -> dict[str, Any]:
        """Return the first of these events; raises DeviceError for "failed" or an end."""
        for event in self.events():
            if event["event"] in wanted:
                return event
            if event["event"] in ("failed", "exited"):
                raise DeviceError(event["text"] or "the process has ended")
        raise DeviceError("the pod's machine has ended")


def listen(folder: Path) -> socket.socket:
    """Return the socket of a pod's process in its folder, however long its path is."""
    listener = socket.socket(socket.AF_UNIX)
    with _short(folder) as short:
        old = os.umask(0o177)
        try:
            listener.bind(f"{short}/{_NAME}")
        finally:
            os.umask(old)
    listener.listen(64)
    return listener


def connect(folder: Path) -> Talk:
    """Return a connection to the pod whose folder this is; raises DeviceError where none is."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        with _short(folder) as short:
            connection.connect(f"{short}/{_NAME}")
    except OSError as error:
        connection.close()
        raise DeviceError("the container is not running", errno=error.errno or 0) from error
    return Talk(connection)


@contextlib.contextmanager
def _short(folder: Path) -> Any:
    """Give a name for a folder that fits into a socket's address."""
    file = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)
