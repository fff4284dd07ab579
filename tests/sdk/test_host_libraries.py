# SPDX-License-Identifier: Apache-2.0
"""C programs against the vendor's host interface, the platform service beside them."""

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.sdk.hosts import build_host, kill_service, service_process

from ensconce.image.config import EnclaveConfig
from ensconce.sdk.build import build
from ensconce.sdk.host_libraries import host_includes, host_libraries
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Toolchain

_HOST = Path(__file__).parent / "host"
_LOST = "0x4"
_TIMEOUT = 60

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="module")
def enclaves(folder: Path, toolchain: Toolchain, signing_key: SigningKey) -> dict[str, Path]:
    """One image signed in different ways."""
    image = build([_HOST / "enclave.c"], _HOST / "host.edl", folder / "e.so", toolchain=toolchain)
    plain = EnclaveConfig(tcs_num=5, heap_max_size=0x400000, stack_max_size=0x20000, tcs_policy=0)
    signed = {
        "plain": plain,
        "kss": replace(plain, enable_kss=1),
        "production": replace(plain, disable_debug=1),
    }
    for name, config in signed.items():
        sign(image, folder / f"{name}.signed.so", signing_key, config=config)
    return {name: folder / f"{name}.signed.so" for name in signed}


@pytest.fixture(scope="module")
def enclave(enclaves: dict[str, Path]) -> Path:
    return enclaves["plain"]


@pytest.fixture(scope="module")
def app(folder: Path, toolchain: Toolchain) -> Path:
    return build_host(toolchain, _HOST / "app.c", _HOST / "host.edl", folder)


@pytest.fixture
def run(app: Path, enclaves: dict[str, Path], environment: dict[str, str]) -> Run:
    def call(*arguments: str | Path, signed: str = "plain") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(app), str(enclaves[signed]), *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )

    return call


@pytest.mark.parametrize(
    "scenario",
    [
        "calls",
        "exceptions",
        "threads",
        "two",
        "signals",
        "buffer",
        "forks",
        "forks-outside",
        "arguments",
        "destroys",
        "leaves",
    ],
)
def test_a_host_program_of_the_vendors_kind_runs(run: Run, scenario: str) -> None:
    done = run(scenario)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stderr


def test_an_enclave_with_kss_is_created_with_a_configuration(run: Run) -> None:
    done = run("configured", signed="kss")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_production_enclave_is_not_created_for_debugging(run: Run) -> None:
    done = run("production", signed="production")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_strings_cross_the_border_both_ways(run: Run) -> None:
    assert run("calls").stdout.splitlines() == ["greeting C", "Hello, C.", "done"]


def test_what_one_process_sealed_another_unseals_after_the_service_was_started_again(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    assert run("keep", tmp_path / "sealed").returncode == 0
    first = service_process(environment)
    kill_service(environment)
    assert run("recall", tmp_path / "sealed").stdout.splitlines() == ["secret", "done"]
    assert service_process(environment) != first


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_an_enclave_whose_service_dies_is_lost_and_can_be_created_again(
    where: str, app: Path, enclave: Path, environment: dict[str, str]
) -> None:
    program = subprocess.Popen(
        [str(app), str(enclave), f"lost-{where}"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == f"{where}\n"
    kill_service(environment)
    while len(list(Path(f"/proc/{program.pid}/task").iterdir())) > 1:
        time.sleep(0.01)  # the thread that takes commands is still there
    out, _ = program.communicate("\n", timeout=_TIMEOUT)
    assert out.splitlines() == [_LOST, _LOST, "done"]


def test_a_file_that_is_no_enclave_is_refused_with_the_vendors_code(
    app: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("no enclave")
    for name, code in (("missing", "0x200f"), ("text", "0x2001")):
        command = [str(app), str(tmp_path / name), "calls"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
        assert done.stdout == f"create {code}\n"


def test_a_program_without_a_free_descriptor_is_told_so(
    app: Path, enclave: Path, environment: dict[str, str], run: Run
) -> None:
    assert run("calls").returncode == 0  # the service is there
    done = {}
    for most in (4, 5, 6):  # 3 is the enclave's file, 4 the service, 5 the enclave's memory
        command = ["prlimit", f"--nofile={most}", str(app), str(enclave), "calls"]
        done[most] = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    assert [done[most].returncode for most in (4, 5, 6)] == [2, 2, 0], done
    assert all("Too many open files" in done[most].stderr for most in (4, 5)), done


@pytest.mark.parametrize("suffix", ["", "_sim"])
def test_the_platforms_libraries_link_and_say_what_they_cannot_do(
    suffix: str, toolchain: Toolchain, tmp_path: Path
) -> None:
    libraries = host_libraries(toolchain)
    names = ["sgx_epid", "sgx_launch", "sgx_quote_ex"] if suffix else ["sgx_uae_service"]
    command = ["g++", "-Wall", "-Werror", "-o", str(tmp_path / "platform")]
    command += [str(_HOST / "platform.cpp"), *(f"-I{place}" for place in host_includes())]
    command += [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-lsgx_dcap_ql", "-lsgx_capable"]
    command += ["-ldcap_quoteprov"]
    command += [f"-lsgx_urts{suffix}", *(f"-l{name}{suffix}" for name in names)]
    subprocess.run(command, check=True)
    done = subprocess.run([str(tmp_path / "platform")], capture_output=True, text=True, check=False)
    assert done.stdout == "0 wrong\n"


def test_programs_that_all_find_no_service_start_one_together(run: Run) -> None:
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(run, ["calls"] * 6))
    assert [each.returncode for each in done] == [0] * 6, [each.stderr for each in done]


def test_enclaves_that_do_not_fit_the_epc_together_run_all_the_same(
    run: Run, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-c", "from ensconce.cli import main; main()", "platform", "serve"]
    place = Path(environment["ENSCONCE_SERVICE"])
    service = subprocess.Popen([*command, "--epc", "1"], env=environment, stderr=subprocess.DEVNULL)
    while not place.exists():
        assert service.poll() is None
        time.sleep(0.01)
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(run, ["calls", "threads", "two"]))
    assert [each.returncode for each in done] == [0, 0, 0], [each.stderr for each in done]
    service.terminate()
    assert service.wait(_TIMEOUT) == 0
    assert not place.exists()


def test_a_library_that_was_loaded_at_run_time_can_be_let_go(
    tmp_path: Path, toolchain: Toolchain, enclave: Path, environment: dict[str, str]
) -> None:
    library = host_libraries(toolchain) / "libsgx_urts.so"
    command = ["gcc", "-Wall", "-Werror", "-pthread", "-o", str(tmp_path / "plugin")]
    command += [str(_HOST / "plugin.c"), *(f"-I{place}" for place in host_includes()), "-ldl"]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [str(tmp_path / "plugin"), str(library), str(enclave)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "3 times\n"), done.stderr


def test_a_program_without_a_home_in_its_environment_finds_its_users_service(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    shim = str(tmp_path / "home.so")
    command = ["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", shim, str(_HOST / "home.c")]
    subprocess.run(command, check=True)
    for name in ("ENSCONCE_SERVICE", "HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        environment.pop(name, None)
    environment |= {"LD_PRELOAD": shim, "TEST_HOME": str(tmp_path)}
    done = run("calls")
    socket = tmp_path / ".local" / "state" / "ensconce" / "service.sock"
    kill_service({"ENSCONCE_SERVICE": str(socket)})
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stderr
    assert socket.exists()


def _holdings(process: int) -> tuple[int, int, int]:
    """Return how many descriptors, threads and resident pages a process has."""
    place = Path(f"/proc/{process}")
    pages = int((place / "statm").read_text().split()[1])
    return len(list((place / "fd").iterdir())), len(list((place / "task").iterdir())), pages


def _settled(process: int) -> tuple[int, int, int]:
    """Return what a service holds once it has let go of clients that are gone."""
    for _ in range(200):
        held = _holdings(process)
        if held[1] == 1:  # the thread that listens
            break
        time.sleep(0.05)
    return held


def cycle(app: Path, enclave: Path, environment: dict[str, str], count: int) -> None:
    """Create, call and destroy an enclave many times: neither program nor service may grow."""
    program = subprocess.Popen(
        [str(app), str(enclave), "cycles", str(count)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stdout.readline() == "outside\n"
    process = service_process(environment)
    files, threads, pages = _settled(process)
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "outside\n", program.communicate()[1]
    held = _settled(process)
    assert program.communicate("\n", timeout=_TIMEOUT)[0] == "done\n"
    assert held[:2] == (files, threads) == (files, 1)
    assert held[2] < pages + 4096  # 16 MiB for Python's allocator, whatever the count


def test_thirty_enclaves_leave_nothing_behind(
    app: Path, enclave: Path, environment: dict[str, str]
) -> None:
    cycle(app, enclave, environment, 30)


@pytest.mark.slow
def test_a_thousand_enclaves_leave_nothing_behind(
    app: Path, enclave: Path, environment: dict[str, str]
) -> None:
    cycle(app, enclave, environment, 1000)
