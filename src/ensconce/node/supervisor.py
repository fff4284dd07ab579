# SPDX-License-Identifier: Apache-2.0
"""Keep services running: start what is not there, adopt what is, and end all when told to.

A service holds a lock on its file for as long as it lives, and wrote its number there before it
was executed. So whoever supervises next, after whatever end of the one before, knows what runs; and
no service runs twice.
"""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ensconce.node.places import Places
from ensconce.node.processes import Process

__all__ = ["SUPERVISOR", "Service", "Supervisor", "command_line", "holder", "start_supervisor"]

SUPERVISOR = "supervisor"
_TICK = 0.3
_LONGEST_PAUSE = 30.0
_STEADY = 10.0  # seconds after which a service is not one that fails at its start
_GRACE = 10.0
_MOST_LOG = 8 << 20

_log = logging.getLogger(__name__)


def command_line(*arguments: str) -> list[str]:
    """Return the command that is `ensconce` with arguments, by this very Python."""
    return [sys.executable, "-c", "from ensconce.cli import main; main()", *arguments]


@dataclass(slots=True)
class Service:
    """One service: its command, what its environment has besides, and how its starts went."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0
    due: float = 0.0
    began: float = 0.0
    child: subprocess.Popen[bytes] | None = None


def holder(places: Places, name: str) -> Process | None:
    """Return the service that holds its lock now."""
    path = places.locks / name
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Process.parse(os.pread(lock, 64, 0).decode("ascii", "replace"))
        return None
    finally:
        os.close(lock)


def take(places: Places, name: str) -> int | None:
    """Lock a service's file; return its descriptor, or None where another has it."""
    places.locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(places.locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _spawn(places: Places, service: Service) -> subprocess.Popen[bytes] | None:
    """Start a service with its lock; None where one runs already."""
    lock = take(places, service.name)
    if lock is None:
        return None
    path = places.logs / f"{service.name}.log"
    if path.exists() and path.stat().st_size > _MOST_LOG:
        path.replace(path.with_suffix(".old"))

    def sign() -> None:
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(Process.of(os.getpid())).encode(), 0)

    try:
        with path.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  # commands of our own
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
                env={**os.environ, **service.environment},
                preexec_fn=sign,  # this process has one thread
            )
    finally:
        os.close(lock)


def start_supervisor(places: Places) -> None:
    """Start the supervisor where none runs, as nobody's child."""
    if holder(places, SUPERVISOR) is None:
        command = ["setsid", "--fork", *command_line("node-service", "supervise")]
        with (places.logs / f"{SUPERVISOR}.log").open("ab") as log:
            subprocess.run(  # noqa: S603  # a command of our own
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True
            )


class Supervisor:
    """Keeps `services` running in order; `keeper` names the one that has to end before others."""

    def __init__(self, places: Places, services: Sequence[Service], *, keeper: str) -> None:
        self._places = places
        self._services = services
        self._keeper = keeper

    def run(self) -> None:
        """Supervise until everything is to end; return at once where another supervises."""
        lock = take(self._places, SUPERVISOR)
        if lock is None:
            return
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(Process.of(os.getpid())).encode(), 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # `ensconce down` ends it
        while not self._places.down.exists():
            for service in self._services:
                self._tend(service)
            time.sleep(_TICK)
        self._end()
        self._places.down.unlink(missing_ok=True)
        os.close(lock)

    def _tend(self, service: Service) -> None:
        """Start a service that does not run, unless it failed just now."""
        now = time.monotonic()
        if service.child is not None and service.child.poll() is not None:
            facts = {"service": service.name, "status": service.child.returncode}
            _log.warning("ended", extra={"facts": facts})
            service.child = None
            steady = now - service.began > _STEADY
            service.failures = 0 if steady else service.failures + 1
            if service.failures > 1:
                service.due = now + min(0.5 * 2.0**service.failures, _LONGEST_PAUSE)
        if now < service.due or holder(self._places, service.name) is not None:
            return
        service.child = _spawn(self._places, service)
        service.began = now
        if service.child is not None:
            facts = {"service": service.name, "pid": service.child.pid}
            _log.info("started", extra={"facts": facts})

    def _end(self) -> None:
        """End the services: the keeper by itself, then the others, the last first."""
        keeper = holder(self._places, self._keeper)
        while keeper is not None and not keeper.wait(_TICK):
            continue
        for service in reversed(self._services):
            process = holder(self._places, service.name)
            if process is None:
                continue
            process.kill(signal.SIGTERM)
            if not process.wait(_GRACE):
                process.kill(signal.SIGKILL)
                process.wait(_GRACE)
            if service.child is not None:
                service.child.wait()
