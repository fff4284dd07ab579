# SPDX-License-Identifier: Apache-2.0
"""C++ programs that have their enclaves quoted, and a relying party that looks at the quotes."""

import contextlib
import hashlib
import itertools
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.sdk.hosts import kill_service

from ensconce.dcap import Collateral, Policy, Reason, Root, validate, verify
from ensconce.dcap.policy import SgxPolicy
from ensconce.edl.files import load_file
from ensconce.image import open_image
from ensconce.image.config import EnclaveConfig
from ensconce.isa.report import Report
from ensconce.platform.quoting import EmulatedPlatform
from ensconce.platform.roles import QE_MR_ENCLAVE
from ensconce.sdk.bridges import untrusted_files
from ensconce.sdk.build import build
from ensconce.sdk.host_libraries import host_includes, host_libraries
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Toolchain

_HOST = Path(__file__).parent / "host"
_TIMEOUT = 60
_NOW = datetime(2026, 11, 24, tzinfo=UTC)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quotes")


@pytest.fixture(scope="module")
def enclave(folder: Path, toolchain: Toolchain, signing_key: SigningKey) -> Path:
    image = build([_HOST / "quoted.c"], _HOST / "quoted.edl", folder / "e.so", toolchain=toolchain)
    sign(image, folder / "e.signed.so", signing_key, config=EnclaveConfig(tcs_num=9, tcs_policy=0))
    return folder / "e.signed.so"


@pytest.fixture(scope="module")
def program(folder: Path, toolchain: Toolchain) -> Path:
    for name, text in untrusted_files(load_file(_HOST / "quoted.edl")).items():
        (folder / name).write_text(text)
    libraries = host_libraries(toolchain)
    includes = [f"-I{place}" for place in (folder, *host_includes())]
    common = ["-Wall", "-Wextra", "-Werror", "-O1", "-pthread", *includes]
    bridges = str(folder / "quoted_u.o")
    subprocess.run(["gcc", *common, "-c", str(folder / "quoted_u.c"), "-o", bridges], check=True)
    command = ["g++", "-std=c++11", *common, "-o", str(folder / "quotes")]
    command += [str(_HOST / "quotes.cpp"), bridges, f"-L{libraries}", f"-Wl,-rpath,{libraries}"]
    subprocess.run([*command, "-lsgx_dcap_ql", "-lsgx_quote_ex", "-lsgx_urts"], check=True)
    return folder / "quotes"


@pytest.fixture
def run(program: Path, enclave: Path, environment: dict[str, str]) -> Run:
    def call(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(program), str(enclave), *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )

    return call


@pytest.mark.parametrize("scenario", ["many", "forks", "keys", "dcap-refuses", "quote-ex-refuses"])
def test_a_program_gets_quotes_and_the_vendors_status_codes(run: Run, scenario: str) -> None:
    done = run(scenario)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize(
    ("scenario", "said"), [("dcap", b"by dcap_ql"), ("quote-ex", b"by quote_ex")]
)
def test_a_relying_party_accepts_a_programs_quote_under_the_test_root_alone(
    run: Run,
    enclave: Path,
    environment: dict[str, str],
    tmp_path: Path,
    scenario: str,
    said: bytes,
) -> None:
    assert run(scenario, tmp_path / "quote").returncode == 0
    quote = (tmp_path / "quote").read_bytes()
    platform = EmulatedPlatform.load(Path(environment["ENSCONCE_PLATFORM"]))
    root = Root.parse(platform.pcs.root.certificate().public_bytes(Encoding.DER))
    collateral = Collateral.parse(json.dumps(platform.pcs.collateral(_NOW)).encode())
    claims = verify(quote, collateral, _NOW, roots=(root,)).claims
    assert claims is not None
    wanted = Policy(
        sgx=SgxPolicy(mr_enclave=(open_image(enclave.read_bytes()).measure(),)),
        report_data=said.ljust(64, b"\0"),
        accept_emulated_root=root.fingerprint,
    )
    assert validate(claims, wanted) == []
    assert [each.key for each in validate(claims, replace(wanted, accept_emulated_root=None))] == [
        "accept_emulated_root"
    ]
    refused = verify(quote, collateral, _NOW)
    assert (refused.claims, refused.reason) == (None, Reason.ROOT_NOT_TRUSTED)


def test_the_quoting_enclave_proves_to_the_program_which_quote_it_made(
    run: Run, tmp_path: Path
) -> None:
    assert run("quote-ex", tmp_path / "quote").returncode == 0  # the enclave checks the MAC
    proof = Report.parse((tmp_path / "quote.proof").read_bytes())
    bound = hashlib.sha256(b"\x5a" * 16 + (tmp_path / "quote").read_bytes()).digest()
    assert proof.body.report_data == bound + bytes(32)
    assert proof.body.mr_enclave == QE_MR_ENCLAVE


def test_a_quote_has_the_same_size_after_the_service_was_started_again(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    sizes = set()
    for name in ("one", "two"):
        assert run("dcap", tmp_path / name).returncode == 0
        sizes.add((tmp_path / name).stat().st_size)
        kill_service(environment)
    assert len(sizes) == 1


def test_many_programs_get_quotes_at_once(run: Run) -> None:
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(run, ["many", "dcap", "quote-ex"] * 2, ["/dev/null"] * 6))
    assert [each.returncode for each in done] == [0] * 6, [each.stderr for each in done]


def test_a_program_without_a_service_is_told_so(run: Run, environment: dict[str, str]) -> None:
    environment["ENSCONCE_COMMAND"] = "/bin/false"
    assert run("alone").stdout.splitlines()[0] == "0xe040 0x4001"


@contextlib.contextmanager
def _pretending(environment: dict[str, str], *answers: bytes | None) -> Iterator[None]:
    """Be a service that answers clients' first requests in turn; b"" hangs up, None is silence."""
    place = Path(environment["ENSCONCE_SERVICE"])
    place.parent.mkdir(mode=0o700)

    def serve() -> None:
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for answer in itertools.cycle(answers):
                connection, _ = listener.accept()
                held.enter_context(connection)
                for _ in ("greeting", "request"):
                    connection.recv(4096)
                if answer:
                    connection.send(answer)
                elif answer is not None:
                    connection.shutdown(socket.SHUT_RDWR)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(place))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


_DONE = struct.pack("<III", 1, 0, 1060)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"x",
        struct.pack("<III", 2, 0, 1060) + bytes(1060),  # to something else
        struct.pack("<III", 1, 9, 0),  # no status
        struct.pack("<III", 1, 1, 0),  # none for this request
        _DONE + bytes(1059),
        _DONE + bytes(1061),
        struct.pack("<III", 1, 0, 1059) + bytes(1059),
        _DONE + bytes(1 << 16),
    ],
)
def test_an_answer_that_is_none_is_no_service(
    run: Run, environment: dict[str, str], answer: bytes
) -> None:
    with _pretending(environment, answer):
        assert run("alone").stdout.splitlines()[0] == "0xe040 0x4001"


def test_a_service_that_ends_just_then_is_asked_again(
    run: Run, environment: dict[str, str]
) -> None:
    with _pretending(environment, b"", _DONE + bytes(1060)):
        assert run("alone").stdout.splitlines()[0] == "0x0 0x0"


@pytest.mark.slow
def test_a_service_that_never_answers_is_given_up(run: Run, environment: dict[str, str]) -> None:
    with _pretending(environment, None):
        assert run("alone").stdout.splitlines()[0] == "0xe042 0x4002"
