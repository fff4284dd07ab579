# SPDX-License-Identifier: Apache-2.0
"""The platform service beside clients that end, stall and lie."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.image.building import signed

from ensconce.crypto import generate_signing_key
from ensconce.errors import ConfigError, ProtocolError
from ensconce.isa.leaves import Enclu
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor
from ensconce.platform.service import Service, take_socket
from ensconce.platform.wire import (
    COMMAND,
    COMMAND_REPLY,
    HELLO_SIZE,
    REQUEST,
    REQUEST_REPLY,
    VERSION,
    Command,
    Hello,
    Kind,
    Request,
)

_LONGEST = 1 << 17
_BASE = 1 << 40
_PF = 14
_GP = 13


class Client:
    """A host process that only says that it does what it is told.

    `answers` are the results of a command in place of zeros; None is silence.
    """

    def __init__(self, path: Path, image: Path, **answers: tuple[int, ...] | None) -> None:
        self._path = path
        self._answers = {"RESERVE": (_BASE,)} | answers
        self.memory = -1
        self.result: Command | None = None
        self.content = b""
        self.status = 0
        self.socket = _connect(path)
        with image.open("rb") as file:
            hello = Hello(Kind.LOAD, 0, 0, bytes(16), bytes(64), "test")
            socket.send_fds(self.socket, [bytes(hello)], [file.fileno()])
        self._attached: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._loaded = threading.Event()
        self._thread.start()

    def _run(self) -> None:
        while True:
            message, files, _, _ = socket.recv_fds(self.socket, _LONGEST, 1)
            if not message:
                self._loaded.set()
                return
            command, _, *arguments = COMMAND.unpack_from(message)
            if files:
                self.memory = files[0]
            if command in (Command.LOADED, Command.FAILED):
                self.result, self.status = Command(command), arguments[0]
                self.content = message[COMMAND.size :]
                self._loaded.set()
                continue
            values = self._answers.get(Command(command).name, ())
            if values is None:
                continue
            padded = [*values] + [0] * (4 - len(values))
            self.socket.send(COMMAND_REPLY.pack(command, 0, *padded))

    def load(self) -> "Client":
        """Wait until the enclave is loaded, or refused, or the service has hung up."""
        assert self._loaded.wait(30)
        return self

    def attach(self) -> socket.socket:
        connection = _connect(self._path)
        self._attached.append(connection)
        connection.send(bytes(Hello(Kind.ATTACH, 0, 0, self.content[:16], bytes(64), "")))
        return connection

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for each in (self.socket, *self._attached):
            each.close()
        if self.memory >= 0:
            os.close(self.memory)
        self.memory = -1


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(30)
    connection.connect(str(path))
    return connection


def ask(connection: socket.socket, request: int, *arguments: int) -> tuple[int, ...]:
    """Return a request's verdict and values; nothing where the service has hung up."""
    connection.send(REQUEST.pack(request, 0, *arguments, *[0] * (20 - len(arguments))))
    answer = connection.recv(1024)
    return REQUEST_REPLY.unpack(answer)[1:] if answer else ()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "enclave.so"
    path.write_bytes(signed(generate_signing_key()))
    return path


@pytest.fixture
def processor() -> Processor:
    return Processor(Identity.generate(), epc_size=1 << 20)


@pytest.fixture
def path(tmp_path: Path, processor: Processor) -> Iterator[Path]:
    """A service's socket."""
    place = tmp_path / "run" / "service.sock"
    listener, lock = take_socket(place)
    service = Service(processor, listener, deadline=0.5)
    thread = threading.Thread(target=service.run)
    thread.start()
    yield place
    service.stop()
    thread.join()
    service.close()
    os.close(lock)


@pytest.fixture
def client(path: Path, image: Path) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(**answers: tuple[int, ...] | None) -> Client:
        made.append(Client(path, image, **answers))
        return made[-1].load()

    yield make
    for each in made:
        each.close()


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_enclave_is_freed_when_its_client_ends(
    client: Callable[..., Client], processor: Processor
) -> None:
    one = client()
    assert one.result is Command.LOADED
    assert processor.epc.used
    one.close()
    _until(lambda: not processor.epc.used and not processor.enclaves)


def test_a_client_that_stalls_is_dropped_and_others_go_on(
    client: Callable[..., Client], processor: Processor
) -> None:
    assert client(OPEN=None).result is None
    assert client().result is Command.LOADED
    _until(lambda: len(processor.enclaves) == 1)


@pytest.mark.parametrize("base", [0, 4096, _BASE + 4096, 1 << 47, (1 << 64) - 4096])
def test_an_address_that_cannot_be_is_refused(client: Callable[..., Client], base: int) -> None:
    assert client(RESERVE=(base,)).result is not Command.LOADED


def test_the_memory_that_a_client_gets_cannot_be_cut(client: Callable[..., Client]) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(client().memory, 0)


def test_leaves_check_what_a_client_says_of_its_registers(client: Callable[..., Client]) -> None:
    connection = client().attach()
    wild = [(1 << 64) - 8] * 18
    assert ask(connection, Request.LEAF, Enclu.EREPORT, *wild)[:2] == (1, _GP)
    assert ask(connection, Request.LEAF, Enclu.EREPORT, _BASE, 0, _BASE)[:2] == (1, _GP)
    assert ask(connection, Request.LEAF, 99, *wild)[:2] == (1, _GP)
    assert ask(connection, Request.FAULT, 12345, 6, 3)[:2] == (0, 6)
    assert ask(connection, Request.CPUID, 0, 0)[2:5:2] != (0, 0)


def test_a_request_that_there_is_not_ends_its_connection_alone(
    client: Callable[..., Client],
) -> None:
    one = client(TCS=(1,))
    for wrong in (0, 99):
        assert ask(one.attach(), wrong) == ()
    bogus_tcs = [Enclu.EDECCSSA, *[0] * 17, 12345]
    assert ask(one.attach(), Request.LEAF, *bogus_tcs) == ()
    short = one.attach()
    short.send(b"short")
    assert short.recv(1024) == b""
    assert ask(one.attach(), Request.FAULT, 12345, 6, 3)[0] == 0


def test_a_client_whose_threads_never_leave_does_not_hold_up_eviction(
    client: Callable[..., Client], processor: Processor
) -> None:
    stuck = client(INSIDE_BEFORE=(1,))
    pages = processor.epc.pages
    for _ in range(40):
        other = client()
        assert other.result is Command.LOADED, other.content
        if stuck.socket.fileno() < 0 or len(processor.enclaves) < 2:
            break
        connection = other.attach()
        for page in range(32):
            ask(connection, Request.FAULT, _BASE + 0x10000 + page * 4096, 6, 3)
    assert processor.epc.used <= pages


@pytest.mark.parametrize(
    "greeting",
    [b"", b"x", bytes(HELLO_SIZE), b"ensc" + bytes([VERSION + 1]) + bytes(HELLO_SIZE - 5)],
)
def test_a_greeting_that_is_none_is_refused(greeting: bytes, path: Path) -> None:
    with _connect(path) as connection:
        connection.send(greeting)
        assert connection.recv(100) == b""
    with pytest.raises(ProtocolError):
        Hello.parse(greeting)


def test_nobody_attaches_without_the_token(path: Path) -> None:
    with _connect(path) as connection:
        connection.send(bytes(Hello(Kind.ATTACH, 0, 0, b"guess" + bytes(11), bytes(64), "")))
        assert connection.recv(100) == b""


def test_two_services_never_share_a_socket(path: Path) -> None:
    with pytest.raises(ConfigError, match="already"):
        take_socket(path)


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="700"):
        take_socket(tmp_path / "service.sock")


def test_a_service_without_clients_ends(tmp_path: Path, processor: Processor) -> None:
    listener, lock = take_socket(tmp_path / "run" / "service.sock")
    service = Service(processor, listener, idle=0.1)
    service.run()
    service.close()
    os.close(lock)
