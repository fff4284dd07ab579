# SPDX-License-Identifier: Apache-2.0
"""The core on machines that lack something, shown by a library that hides it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HIDE_FSGSBASE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/auxv.h>
unsigned long getauxval(unsigned long type) {
    unsigned long (*real)(unsigned long) = (unsigned long (*)(unsigned long))dlsym(RTLD_NEXT,
                                                                                   "getauxval");
    unsigned long value = real(type);
    return type == AT_HWCAP2 ? value & ~2ul : value;
}
"""
# a kernel without Syscall User Dispatch, memory files that may be executed, and faulting CPUID
HIDE_NEW_CALLS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
int prctl(int option, ...) {
    (void)option;
    errno = EINVAL;
    return -1;
}
int memfd_create(const char *name, unsigned flags) {
    int (*real)(const char *, unsigned) = (int (*)(const char *, unsigned))dlsym(RTLD_NEXT,
                                                                                 "memfd_create");
    if (flags & 0x10) {
        errno = EINVAL;
        return -1;
    }
    return real(name, flags);
}
"""


def run_without(tmp_path: Path, hidden: str, program: str) -> subprocess.CompletedProcess[str]:
    source, library = tmp_path / "hide.c", tmp_path / "hide.so"
    source.write_text(hidden)
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", library], check=True)
    path = os.pathsep.join(map(str, (ROOT, ROOT / "src")))
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path, "LD_PRELOAD": str(library)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_fsgsbase_the_module_loads_and_enclaves_are_refused(tmp_path: Path) -> None:
    program = """
from ensconce import _core
from ensconce.errors import DeviceError
assert not _core.capabilities()["fsgsbase"]
base = _core.reserve(65536)
memory = _core.Memory(base, 65536)
for make in (lambda: _core.Call(_core.emulated_enter_address()),
             lambda: _core.Enclave(memory, 1, 0, 4, 3, print, print)):
    try:
        make()
    except DeviceError as error:
        print(error)
"""
    done = run_without(tmp_path, HIDE_FSGSBASE, program)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    assert "nofsgsbase" in first


def test_an_older_kernel_runs_enclaves_too(tmp_path: Path) -> None:
    program = """
from ensconce import _core
from tests.core.rig import Rig
rig = Rig()
assert rig.run("undefined") == 1 and rig.resume() == 1
rig.reset()
found = _core.capabilities()
print(found["syscall_user_dispatch"], rig.run("system_call"), rig.call.rsi > 0)
"""
    done = run_without(tmp_path, HIDE_NEW_CALLS, program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False 0 True\n"  # the system call was made: the one thing missing


def test_asking_what_there_is_changes_nothing() -> None:
    program = """
from ensconce import _core
from tests.core.rig import Rig
rig = Rig()
before = _core.capabilities()
assert rig.run("system_call") == 1
assert _core.capabilities() == before
rig.reset()
assert rig.run("system_call") == 1
"""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "src")))
    subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        check=True,
        timeout=60,
    )


@pytest.mark.parametrize("interpreter", ["/usr/bin/python3"])
def test_an_interpreter_without_a_shared_library_is_served(interpreter: str) -> None:
    program = """
import signal, sys
if sys.version_info < (3, 11):
    print("old"); sys.exit()
from ensconce import _core
from ensconce.errors import DeviceError
base = _core.reserve(65536)
memory = _core.Memory(base, 65536)
code = bytes.fromhex("48833d f80f000000 74f6 4889cb b804000000 0f01d7")  # spin, then EEXIT
memory.alias_view(0, len(code))[:] = code
memory.protect(0, 4096, 5)
memory.protect(4096, 12288, 3)
enclave = _core.Enclave(memory, 1, 0, 4, 3, print, print)
enclave.set_tcs(0x8000, flags=0, ossa=0x2000, nssa=2, cssa=0, oentry=0, ofsbase=0, ogsbase=0)
enclave.enable(True)
def ring(*_):
    memory.alias_view(4096, 1)[:] = b"1"
signal.signal(signal.SIGALRM, ring)  # after the core has started
signal.setitimer(signal.ITIMER_REAL, 0.05)
print(_core.Call(_core.emulated_enter_address()).enter(2, base + 0x8000))
"""
    if not Path(interpreter).exists():
        pytest.skip(f"there is no {interpreter} here")
    done = subprocess.run(
        [interpreter, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.stdout == "old\n":
        pytest.skip(f"{interpreter} is older than 3.11")
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
