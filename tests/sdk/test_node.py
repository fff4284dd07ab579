# SPDX-License-Identifier: Apache-2.0
"""A node's platform, and programs that reach it as containers do."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.sdk.hosts import build_host

from ensconce.image.config import EnclaveConfig
from ensconce.platform.allocations import Allocations
from ensconce.platform.control import Standing, ask
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Toolchain

_HOST = Path(__file__).parent / "host"
_OUT_OF_EPC = "create 0x2005"
_CRASHED = "0x1006"
_LOST = "0x4"
_TIMEOUT = 30
_MIB = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("node")
    for place in (made, *made.parents[:2]):
        place.chmod(0o755)  # programs of other users come here
    return made


@pytest.fixture(scope="module")
def enclave(folder: Path, toolchain: Toolchain, signing_key: SigningKey) -> Path:
    """An enclave with 4 MiB of heap, which takes EPC as it is touched."""
    image = build([_HOST / "enclave.c"], _HOST / "host.edl", folder / "e.so", toolchain=toolchain)
    config = EnclaveConfig(tcs_num=5, heap_max_size=0x400000, stack_max_size=0x20000, tcs_policy=0)
    sign(image, folder / "e.signed.so", signing_key, config=config)
    return folder / "e.signed.so"


@pytest.fixture(scope="module")
def app(folder: Path, toolchain: Toolchain) -> Path:
    return build_host(toolchain, _HOST / "app.c", _HOST / "host.edl", folder)


class Node:
    """A platform in a process of its own, over a folder."""

    def __init__(self, place: Path, *options: str) -> None:
        self.allocations = Allocations(place / "run")
        self._command = [sys.executable, "-c", "from ensconce.cli import main; main()"]
        self._command += ["platform", "node", "--folder", str(place / "run")]
        self._command += ["--path", str(place / "state" / "platform"), *options]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                self.ask()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise TimeoutError

    def ask(self) -> Standing:
        return ask(self.allocations.control)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def node() -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="node") as place:  # pytest's is too long for a socket
        Path(place).chmod(0o755)
        made = Node(Path(place), "--epc", "16")
        yield made
        made.kill()


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(app: Path, enclave: Path, node: Node) -> Iterator[Start]:
    started = []

    def call(name: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a program as a container with an allocation has it."""
        service = {"ENSCONCE_SERVICE": str(node.allocations.socket(name))}
        process = subprocess.Popen(
            [str(app), str(enclave), *arguments],
            env=os.environ | service | {"ENSCONCE_SERVICE_WAIT": "5"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def rest(process: "subprocess.Popen[str]") -> list[str]:
    return process.communicate("\n", timeout=_TIMEOUT)[0].splitlines()


def test_a_program_runs_an_enclave_through_its_allocation(node: Node, start: Start) -> None:
    made = node.allocations.add(4 * _MIB, "example.org/epc", ["a", "b"])
    assert rest(start(made.id, "calls"))[-1:] == ["done"]


def test_an_allocation_tells_what_it_uses(node: Node, start: Start) -> None:
    made = node.allocations.add(8 * _MIB)
    program = start(made.id, "fill", "256")
    assert line(program) == "0x0"
    wait_for(lambda: node.ask().allocations[made.id].used >= _MIB)
    use = node.ask().allocations[made.id]
    assert (use.epc, use.enclaves) == (8 * _MIB, 1)
    rest(program)
    wait_for(lambda: node.ask().allocations[made.id].used == 0)


def test_an_enclave_that_does_not_fit_into_its_allocation_is_not_created(
    node: Node, start: Start
) -> None:
    made = node.allocations.add(16 << 12)
    assert rest(start(made.id, "calls")) == [_OUT_OF_EPC]


def test_what_goes_over_its_limit_fails_and_nobody_else(node: Node, start: Start) -> None:
    greedy, modest = node.allocations.add(2 * _MIB), node.allocations.add(4 * _MIB)
    beside = start(modest.id, "fill", "256")
    assert line(beside) == "0x0"
    program = start(greedy.id, "fill", "600")
    assert line(program) == _CRASHED
    assert node.ask().allocations[greedy.id].peak <= 2 * _MIB
    assert rest(beside)[-1:] == ["done"]
    rest(program)
    assert rest(start(greedy.id, "exceptions"))[-1:] == ["done"]


def test_an_allocation_beyond_the_nodes_epc_is_not_served(node: Node) -> None:
    first = node.allocations.add(12 * _MIB)
    assert first.id in node.ask().allocations
    second = node.allocations.add(8 * _MIB)
    assert second.id not in node.ask().allocations


def test_an_allocation_of_unknown_size_is_served_once_it_is_known(node: Node, start: Start) -> None:
    made = node.allocations.add(None)
    node.ask()
    program = start(made.id, "fill", "16")
    time.sleep(0.5)
    assert node.ask().allocations[made.id].enclaves == 0
    node.allocations.set_epc(made.id, 4 * _MIB)
    assert rest(program) == ["0x0", "outside", "done"]


def test_enclaves_end_with_their_allocation(node: Node, start: Start) -> None:
    made = node.allocations.add(4 * _MIB)
    program = start(made.id, "lost-outside")
    assert line(program) == "outside"
    node.allocations.remove(made.id)
    assert made.id not in node.ask().allocations
    time.sleep(0.2)
    assert program.stdin is not None
    program.stdin.write("\n")
    program.stdin.flush()
    assert line(program) == _LOST


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_program_goes_on_with_a_new_enclave_when_the_platform_is_back(
    node: Node, start: Start, where: str
) -> None:
    made = node.allocations.add(4 * _MIB)
    program = start(made.id, f"lost-{where}")
    assert line(program) == where
    node.kill()
    node.start()
    assert rest(program) == [_LOST, _LOST, "done"]


def test_a_device_that_is_allocated_again_ends_what_had_it_before(node: Node) -> None:
    old = node.allocations.add(4 * _MIB, "example.org/epc", ["a", "b"])
    new = node.allocations.add(4 * _MIB, "example.org/epc", ["b"])
    other = node.allocations.add(4 * _MIB, "example.org/other", ["b"])
    assert sorted(node.ask().allocations) == sorted([new.id, other.id])
    assert not node.allocations.mount(old.id).exists()


def test_an_allocation_that_is_anothers_second_name_is_served_as_that(
    node: Node, start: Start
) -> None:
    first, second = (
        node.allocations.add(4 * _MIB, "a", ["1"]),
        node.allocations.add(None, "b", ["1"]),
    )
    node.ask()
    node.allocations.set_same(second.id, first.id)
    node.ask()
    program = start(second.id, "fill", "16")
    assert line(program) == "0x0"
    node.kill()
    node.start()
    assert rest(start(second.id, "exceptions"))[-1:] == ["done"]
    assert list(node.ask().allocations) == [first.id]


def test_a_child_keeps_no_right_of_the_platforms(node: Node, start: Start) -> None:
    made = node.allocations.add(4 * _MIB)
    assert line(start(made.id, "fill", "16")) == "0x0"
    (child,) = children(node.process.pid)
    status = Path(f"/proc/{child}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    users = status.split("Uid:")[1].split("\n")[0].split()
    assert (set(users) == {"0"}) is False


def children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
