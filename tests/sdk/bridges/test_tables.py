# SPDX-License-Identifier: Apache-2.0
"""The tables of the trusted and untrusted side, and the host's own functions."""

import struct
import subprocess
from pathlib import Path
from typing import Any

from ensconce.edl import loads
from ensconce.sdk.bridges import untrusted_files

HARNESS = Path(__file__).parent / "harness"


def test_the_ecall_table_tells_private_from_public(enclave: Any) -> None:
    count = len(enclave.interface.ecalls)
    table = enclave.table("g_ecall_table", 8 + 16 * count)
    assert struct.unpack_from("<Q", table) == (count,)
    assert [table[8 + 16 * i + 8] for i in range(count)] == [0] * (count - 1) + [1]
    assert [table[8 + 16 * i + 9] for i in range(count)] == [0] * count


def test_the_entry_table_tells_what_each_ocall_allows(enclave: Any) -> None:
    ecalls, ocalls = len(enclave.interface.ecalls), len(enclave.interface.ocalls)
    table = enclave.table("g_dyn_entry_table", 8 + ecalls * ocalls)
    assert struct.unpack_from("<Q", table) == (ocalls,)
    assert table[8 : 8 + ecalls] == bytes(ecalls - 1) + b"\x01"
    assert table[8 + ecalls :] == bytes(ecalls * (ocalls - 1))


def test_the_hosts_side_fills_structures_and_answers_ocalls(tmp_path: Path) -> None:
    interface = loads((HARNESS / "Enclave.edl").read_text())
    for name, text in untrusted_files(interface).items():
        (tmp_path / name).write_text(text)
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{HARNESS.parent / 'include'}", "-I."]
    command = ["gcc", *flags, "-o", "host", str(HARNESS / "host.c"), "Enclave_u.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    out = subprocess.run(["./host"], cwd=tmp_path, check=True, capture_output=True, text=True)
    seen = "9 printed 7 AA -1 9 naked 0 2"
    assert out.stdout == f"3 1 {seen} 0 4 6 {seen} 5 0 425 6 {seen} 0 "
