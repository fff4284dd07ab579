# SPDX-License-Identifier: Apache-2.0
"""Bridges of every form against a host that changes what it passes at every read.

`fuzz/fuzz_bridges.py` does the same for as long as it is let.
"""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.edl.strategies import interfaces
from tests.sdk.bridges.hostile.cases import run
from tests.sdk.bridges.hostile.machine import HERE, Finding, Machine

from ensconce.edl import Interface, loads

EVERYTHING = loads((HERE / "everything.edl").read_text())


def inputs(count: int, seed: int) -> list[bytes]:
    source = random.Random(seed)  # noqa: S311 (no secret)
    return [source.randbytes(source.choice((8, 30, 100, 400))) for _ in range(count)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(EVERYTHING, tmp_path_factory.mktemp("everything"))


def test_no_bridge_of_any_form_breaks_a_rule(machine: Machine) -> None:
    made: Counter[str] = Counter()
    for content in inputs(8000, seed=1):
        case = run(machine, content)
        made[case.function.name] += case.called
    functions = (*EVERYTHING.ecalls, *EVERYTHING.ocalls)
    assert min(made[function.name] for function in functions) > 50, "most calls must be made"


@given(content=st.binary(max_size=200))
def test_no_input_found_by_shrinking_breaks_a_rule(machine: Machine, content: bytes) -> None:
    run(machine, content)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(interface=interfaces(), seed=st.integers(0, 1 << 32))
def test_no_bridge_of_any_interface_breaks_a_rule(
    interface: Interface, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    machine = Machine(interface, tmp_path_factory.mktemp("any"))
    for content in inputs(300, seed):
        run(machine, content)


MS = "((ms_ecall_{0}_t*)pms)->ms_"
READ = "sizeof(ms)) != 0)\n        return SGX_ERROR_UNEXPECTED;\n"
FAULTS = {
    "a length is read where the host can change it": (
        "(size_t)ms.ms_count))",
        f"(size_t){MS.format('both')}count))",
    ),
    "the structure is copied twice": (
        READ,
        f"{READ}    memcpy_s(&ms, sizeof(ms), pms, sizeof(ms));\n",
    ),
    "a buffer is copied twice": (
        "else if (memcpy_s(inside, size, outside, size) != 0)",
        "else if (memcpy_s(inside, size, outside, size) + memcpy_s(inside, size, outside, size))",
    ),
    "the structure may be the enclave's": (
        "pms == NULL || !sgx_is_outside_enclave(pms, sizeof(ms))",
        "pms == NULL",
    ),
    "a buffer may be the enclave's": (
        "return buffer == NULL || sgx_is_outside_enclave(buffer, size);",
        "return size < 4096 || sgx_is_outside_enclave(buffer, size);",
    ),
    "only a buffer's first byte is checked": (
        "sgx_is_outside_enclave(buffer, size);",
        "sgx_is_outside_enclave(buffer, 1);",
    ),
    "a product may overflow": ("count > SIZE_MAX / size", "0"),
    "a product is computed in 32 bits": (
        "*product = size * count;",
        "*product = (uint32_t)(size * count);",
    ),
    "elements may be broken": ("size % element == 0;", "1;"),
    "a string needs no end": ("inside[size - 1] = '\\0';", ""),
    "a string may end early": ("strlen(inside) + 1 != size", "0"),
    "an out-buffer is not zeroed": (
        "memset(inside, 0, size);\n    return inside;",
        "return inside;",
    ),
    "the result goes where the host says by then": (
        "edl_copy_out(ms.ms_data, in_data",
        f"edl_copy_out({MS.format('both')}data, in_data",
    ),
    "what only goes in comes out": (
        "free(in_many);",
        "edl_copy_out((void*)ms.ms_many, in_many, len_many, &status);\n    free(in_many);",
    ),
    "memory is kept": ("free(in_many);", ""),
    "memory is freed twice": ("free(in_many);", "free(in_many);\n    free(in_many);"),
    "checks and copies have no fence between them": (
        "sgx_lfence();\n\n    in_",
        "\n    in_",
    ),
    "a member's buffer may be the enclave's": (
        "|| !sgx_is_outside_enclave(outside, block->size)",
        "",
    ),
    "a member comes back as long as the function says": (
        "length > block->size || length % element != 0\n        || !sgx_is_within_enclave",
        "length % element != 0\n        || !sgx_is_within_enclave",
    ),
    "the host sees the enclave's addresses": (
        "elements[i].values = (uint16_t*)saved[i].values.outside;",
        "",
    ),
    "an OCALL's answer is read by the host's pointer": (
        "edl_fetch(data, ms.ms_data",
        "edl_fetch(data, lent->ms_data",
    ),
    "an OCALL's answer is taken at the host's length": (
        "edl_fetch(many, ms.ms_many, len_many",
        "edl_fetch(many, ms.ms_many, lent->ms_n",
    ),
    "an OCALL's answer is read twice": (
        "size != 0\n        && memcpy_s(inside, size, outside, size) != 0)",
        "size != 0 && (memcpy_s(inside, 1, outside, 1)\n"
        "        || memcpy_s(inside, size, outside, size) != 0))",
    ),
    "an OCALL lends what the enclave's memory held": (
        "memset_verw(outside, 0, size);",
        "memcpy_verw_s(outside, size, inside, size);",
    ),
    "the untrusted stack may be the enclave's": (
        "memory == NULL || !sgx_is_outside_enclave(memory, size)",
        "memory == NULL",
    ),
    "an OCALL's member may grow": (
        "length > block->size || length % element != 0\n        || (length",
        "length % element != 0\n        || (length",
    ),
    "an OCALL's member may move": ("(length != 0 && outside != block->outside)", "0"),
    "the host sets the enclave's pointers": ("element.values = elements[i].values;", ""),
    "an OCALL's buffer may be the host's": (
        "return buffer == NULL || sgx_is_within_enclave(buffer, size);",
        "return 1;",
    ),
    "untrusted memory is kept": ("sgx_ocfree();", ""),
    "an OCALL's string needs no end": (
        "inside[size - 1] = '\\0';\n    length = strlen(inside);",
        "length = strlen(inside);",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bridge_with_a_fault_is_found_out(fault: str, tmp_path: Path) -> None:
    right, wrong = FAULTS[fault]

    def change(source: str) -> str:
        assert right in source
        return source.replace(right, wrong)

    machine = Machine(EVERYTHING, tmp_path, change, "-O0")  # compiles in half the time
    with pytest.raises(Finding):  # noqa: PT012 (each input may be the one)
        for content in inputs(30000, seed=2):
            run(machine, content)
