# SPDX-License-Identifier: Apache-2.0
"""Each example, copied to a folder of its own and run as its README says; what it tells is true."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ensconce
from ensconce import edl
from ensconce.edl.stubs import stub
from ensconce.enclave import emulated_device, load
from ensconce.sdk.toolchain import cache_folder

pytest.importorskip("ziglang", reason="the toolchain's wheel is not installed")

_EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's home, with an emulated platform of its own."""
    return tmp_path_factory.mktemp("home")


def _copy(home: Path, name: str) -> Path:
    ignored = shutil.ignore_patterns("build", "__pycache__")
    return shutil.copytree(_EXAMPLES / name, home / name, ignore=ignored)


def _run(folder: Path, program: str = "host.py") -> str:
    environment = os.environ | {
        "ENSCONCE_BACKEND": "emulated",
        "ENSCONCE_CACHE": str(cache_folder()),
        "ENSCONCE_PLATFORM": str(folder.parent / "platform"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, program]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sealed_state(home: Path) -> Path:
    return _copy(home, "03-sealed-state")


@pytest.fixture(scope="module")
def sealed_runs(sealed_state: Path) -> tuple[str, str]:
    return _run(sealed_state), _run(sealed_state)


def test_sealed_state_survives_restarts_of_enclave_and_host(sealed_runs: tuple[str, str]) -> None:
    first, second = sealed_runs
    assert "1. No state yet, so the counter starts at 0\n   counted to 3;" in first
    assert "2. After a restart the state is accepted\n   counted to 4\n" in first
    assert "1. The state of an earlier run is accepted\n   counted to 8;" in second


def test_sealed_state_is_read_after_an_upgrade_and_not_after_a_downgrade(
    sealed_runs: tuple[str, str],
) -> None:
    first, _ = sealed_runs
    assert "3. Version 2 finds version 1's state accepted\n   counted to 5" in first
    assert re.search(r"4\. Version 1 finds version 2's .* SGX_ERROR_INVALID_ISVSVN", first)


def test_sealed_state_that_was_changed_cut_or_is_anothers_is_refused(
    sealed_runs: tuple[str, str],
) -> None:
    first, _ = sealed_runs
    assert re.search(r"A changed bit is refused: SGX_ERROR_MAC_MISMATCH", first)
    assert re.search(r"half a file is refused: SGX_ERROR_INVALID_PARAMETER", first)
    assert re.search(r"another signer's .* refused: SGX_ERROR_MAC_MISMATCH", first)


def test_an_old_sealed_state_is_refused_within_a_run_only(sealed_runs: tuple[str, str]) -> None:
    first, _ = sealed_runs
    assert "while the enclave runs, is refused: this state is older" in first
    assert "the same old state after a restart is accepted" in first


def test_the_sealed_states_keys_are_their_owners_alone(
    sealed_runs: tuple[str, str], sealed_state: Path
) -> None:
    assert sealed_runs
    keys = list((sealed_state / "build").glob("*.pem"))
    assert {key.name for key in keys} == {"signer.pem", "stranger.pem"}
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


@pytest.fixture(scope="module")
def attestation(home: Path) -> str:
    return _run(_copy(home, "04-local-attestation"))


def test_attested_enclaves_exchange_secrets(attestation: str) -> None:
    assert "1. The two enclaves have proved to each other who they are" in attestation
    assert "2. A secret, accepted: the host saw only" in attestation
    assert "each has the other's secret: True" in attestation


def test_attested_enclaves_refuse_what_the_host_changed_or_played_back(attestation: str) -> None:
    for refusal in (
        "the same packet again is refused, replayed",
        "sent back to its sender it is refused, SGX_ERROR_MAC_MISMATCH",
        "A packet with one bit changed is refused, SGX_ERROR_MAC_MISMATCH",
        "A changed message of the attestation is refused, SGX_ERROR_UNEXPECTED",
    ):
        assert refusal in attestation


def test_attested_enclaves_refuse_another_signers_on_either_side(attestation: str) -> None:
    assert "by another signer is refused, genuine, and a stranger" in attestation
    assert "would talk to anybody is refused, genuine, and a stranger" in attestation


@pytest.fixture(scope="module")
def remote(home: Path) -> str:
    return _run(_copy(home, "06-remote-attestation"), "relying_party.py")


def test_a_secret_is_released_to_the_enclave_that_is_wanted(remote: str) -> None:
    assert "3. The policy for this enclave: accepted, the quote is verified" in remote
    assert "the platform is UpToDate" in remote
    assert "   the enclave has the secret\n" in remote


def test_no_secret_is_released_under_another_policy(remote: str) -> None:
    assert re.search(r"^1\. A policy for production: refused.* root_not_trusted", remote, re.M)
    assert re.search(r"^2\. A policy for another enclave: refused.* sgx\.mr_enclave", remote, re.M)


@pytest.fixture(scope="module")
def python_host(home: Path) -> str:
    return _run(_copy(home, "05-python-host"))


def test_the_python_host_passes_every_kind_of_parameter(python_host: str) -> None:
    for line in (
        "[in]       checksum of bytes: 0x17862",
        "[out]      pattern: 0001020304050607",
        "[in, out]  reversed: [3, 2, 1]",
        "42 / 5 is 8, with status 0",
        "42 / 0 is refused: SGX_ERROR_INVALID_PARAMETER",
        "letters: 9",
        "LOUD",
        "moved to {'x': 11, 'y': 9}",
        "span of a list: 7",
        "with ctypes: (6, 7)",
        "sum of shared memory: 6",
        "sum of pinned bytes: 11",
    ):
        assert line in python_host


def test_the_python_host_refuses_wrong_arguments_and_addresses_inside(python_host: str) -> None:
    for refusal in (
        "refused    checksum(data) takes 4 bytes, and was given 3",
        "refused    pattern(target) takes a writable buffer",
        "refused    divide(left) takes int32_t",
        "an address inside is refused: INVALID_PARAMETER",
    ):
        assert refusal in python_host


def test_the_python_host_is_called_out_to_and_calls_in_again(python_host: str) -> None:
    for line in (
        "OCALL      answered: 20",
        "nested ECALLs: 5 deep",
        "what it raised is the cause: LookupError('no answer to this one')",
        "a private ECALL is refused: ECALL_NOT_ALLOWED",
    ):
        assert line in python_host


def test_the_python_host_meets_the_limits_of_threads_and_memory(python_host: str) -> None:
    for line in (
        "met inside: [4, 4, 4, 4]",
        "all 4 TCSs are in use; call from fewer threads",
        "afterwards: 24 calls have been answered",
        "12 MiB used in 8 MiB of EPC: 12 MiB are right",
        "64 MiB in a heap of 16 are refused: OUT_OF_MEMORY",
        "EADD was refused: the EPC is too small",
    ):
        assert line in python_host


def test_the_python_host_recovers_from_crash_and_loss(python_host: str) -> None:
    assert python_host.count("crashed: #PF (page fault) writing address 0x8 in crash+") == 2
    assert re.search(r"^closed .* was closed; load it again$", python_host, re.M)
    assert re.search(r"^lost .* lost its memory", python_host, re.M)
    assert "the second time it works: 42" in python_host


def test_the_python_hosts_types_are_those_of_its_edl() -> None:
    folder = _EXAMPLES / "05-python-host"
    interface = edl.loads((folder / "enclave.edl").read_text(), "enclave")
    assert stub(interface) == (folder / "interface.pyi").read_text()


def test_the_python_host_passes_a_strict_type_check(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    source = str(Path(ensconce.__file__).parents[1])
    environment = os.environ | {"MYPYPATH": source, "MYPY_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "mypy", "--config-file=", "--strict", "host.py"]
    folder = _copy(tmp_path, "05-python-host")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


class _Silent:
    """A host whose OCALLs do nothing."""

    def print(self, _text: str) -> None: ...

    def answer(self, _question: str) -> int:
        return 0

    def read_name(self, _name: memoryview, _size: int) -> int:
        return 0


@pytest.mark.usefixtures("sealed_runs", "attestation", "remote", "python_host")
@pytest.mark.parametrize(
    ("example", "file", "interface", "left_out"),
    [
        ("01-hello-world", "enclave.signed.so", "enclave.edl", ()),
        ("03-sealed-state", "v2.signer.so", "enclave.edl", ()),
        ("04-local-attestation", "initiator.signer.so", "initiator.edl", ()),
        ("04-local-attestation", "responder.signer.so", "responder.edl", ()),
        ("06-remote-attestation", "enclave.signed.so", "enclave.edl", ()),
        (
            "05-python-host",
            "enclave.signed.so",
            "enclave.edl",
            ("crash", "hold", "meet", "descend", "deeper"),
        ),
    ],
)
def test_an_enclave_that_newcomers_copy_bears_null_pointers(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    example: str,
    file: str,
    interface: str,
    left_out: tuple[str, ...],
) -> None:
    monkeypatch.setenv("ENSCONCE_PLATFORM", str(home / "platform"))
    folder = home / example
    if not folder.exists():
        _run(_copy(home, example))
    device = emulated_device(epc_size=64 << 20)
    path = folder / interface
    with load(folder / "build" / file, edl=path, ocalls=_Silent(), device=device) as enclave:
        assert enclave.interface is not None
        for ecall in enclave.interface.ecalls:
            if ecall.name not in left_out:
                values = [8 if item.by_value else None for item in ecall.parameters]
                enclave.calls[ecall.name](*values)
        assert enclave.gone is None


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ and make")
def test_the_cpp_example_builds_by_its_makefile_and_tells_no_small_numbers(home: Path) -> None:
    folder = _copy(home, "02-cpp")
    environment = os.environ | {
        "ENSCONCE_SERVICE": str(folder.parent / "service.sock"),
        "ENSCONCE_PLATFORM": str(folder.parent / "platform"),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }
    done = subprocess.run(
        ["make", "run"], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "They share 4 variants.\n  the enclave says: too few to tell\n" in done.stdout
    assert "north and village: 0x4001\nnorth and nobody: 0x2\n" in done.stdout
