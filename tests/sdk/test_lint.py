# SPDX-License-Identifier: Apache-2.0
"""Each thing that a lint looks for, put into a real image on purpose."""

import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ensconce.cli import main
from ensconce.errors import ConfigError, FormatError
from ensconce.image.config import EnclaveConfig
from ensconce.image.elf import DynamicTag, Elf, SegmentType
from ensconce.sdk.fences import Fences, Kind
from ensconce.sdk.functions import Functions, Place
from ensconce.sdk.instruction import decode
from ensconce.sdk.lint import Allow, Check, Severity, lint, read_allow_file
from ensconce.sdk.loads import loads
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Mitigation

_PHDR = 56
_CPUID = b"\x0f\xa2"
_TIMESTAMP = b"\x0f\x31"
_GLOB_DAT, _TPOFF64, _UNKNOWN_RELOCATION = 6, 18, 37


def _elf(data: bytes | bytearray) -> Elf:
    return Elf(memoryview(bytes(data)), "image")


def _poke(data: bytearray, symbol: str, code: bytes) -> None:
    """Overwrite the start of a function."""
    elf = _elf(data)
    offset, _ = elf.at_address(elf.symbols[symbol], len(code), symbol)
    data[offset : offset + len(code)] = code


def _rename(data: bytearray, name: str) -> None:
    """Change a name in all string tables."""
    old = b"\0" + name.encode() + b"\0"
    while old in data:
        data[data.index(old) + 1] ^= 2


def _segment(data: bytearray, kind: int, *, new_kind: int | None = None, flags: int = 0) -> None:
    """Change type or flags of the last segment of a type."""
    first = struct.unpack_from("<Q", data, 32)[0]
    index = max(i for i, each in enumerate(_elf(data).segments) if each.type == kind)
    if new_kind is not None:
        struct.pack_into("<I", data, first + index * _PHDR, new_kind)
    old = struct.unpack_from("<I", data, first + index * _PHDR + 4)[0]
    struct.pack_into("<I", data, first + index * _PHDR + 4, old | flags)


def _relocate(data: bytearray, kind: int) -> None:
    relocation = next(iter(_elf(data).dynamic_relocations()))
    struct.pack_into("<Q", data, relocation.file_offset + 8, kind)


def _undefine(data: bytearray) -> None:
    """Make g_peak_heap_used a symbol that somebody else should define."""
    elf = _elf(data)
    table = elf.section(".dynsym")
    assert table is not None
    names = [each.name for each in elf.dynamic_symbols]
    at = table.offset + 24 * (1 + names.index("g_peak_heap_used"))
    struct.pack_into("<H", data, at + 6, 0)


def _want_text_relocations(data: bytearray) -> None:
    dynamic = next(each for each in _elf(data).segments if each.type == SegmentType.DYNAMIC)
    struct.pack_into("<QQ", data, dynamic.offset, DynamicTag.TEXTREL, 0)


def _drop_enclu(data: bytearray) -> None:
    while b"\x0f\x01\xd7" in data:
        at = data.index(b"\x0f\x01\xd7")
        data[at : at + 3] = b"\x90" * 3


def _drop_protector(data: bytearray) -> None:
    _rename(data, "__stack_chk_fail")
    while b"\x25\x28\0\0\0" in data:
        data[data.index(b"\x25\x28\0\0\0") + 1] = 0x30


_NULL = 0
_BAD: list[tuple[Callable[[bytearray], None], Check, Severity, str]] = [
    (lambda d: _poke(d, "sgx_greet", _CPUID), Check.ILLEGAL_INSTRUCTION, Severity.ERROR, "CPUID"),
    (lambda d: _poke(d, "sgx_greet", _TIMESTAMP), Check.SGX2_INSTRUCTION, Severity.WARNING, "RDT"),
    (lambda d: _poke(d, "sgx_greet", b"\x06"), Check.NOT_CODE, Severity.WARNING, "1 functions"),
    (lambda d: _relocate(d, _GLOB_DAT), Check.RELOCATION, Severity.INFO, "type 6"),
    (lambda d: _relocate(d, _TPOFF64), Check.RELOCATION, Severity.ERROR, "type 18"),
    (lambda d: _relocate(d, _UNKNOWN_RELOCATION), Check.RELOCATION, Severity.ERROR, "type 37"),
    (_undefine, Check.LINKAGE, Severity.ERROR, "does not define g_peak_heap_used"),
    (lambda d: _rename(d, "g_global_data"), Check.MISSING_SYMBOL, Severity.ERROR, "g_global_data"),
    (lambda d: _rename(d, ".note.sgxmeta"), Check.NO_METADATA_ROOM, Severity.ERROR, "no section"),
    (_drop_enclu, Check.SIMULATION, Severity.ERROR, "simulation mode"),
    (_want_text_relocations, Check.WRITABLE_CODE, Severity.WARNING, "DT_TEXTREL"),
    (
        lambda d: _segment(d, SegmentType.LOAD, flags=3),
        Check.WRITABLE_CODE,
        Severity.WARNING,
        "writable and executable",
    ),
    (
        lambda d: _segment(d, SegmentType.GNU_RELRO, new_kind=SegmentType.INTERP),
        Check.DYNAMIC_LINKER,
        Severity.WARNING,
        "GNU ld",
    ),
    (
        lambda d: _segment(d, SegmentType.GNU_RELRO, new_kind=_NULL),
        Check.NO_RELRO,
        Severity.WARNING,
        "-z relro",
    ),
    (
        lambda d: _segment(d, SegmentType.GNU_STACK, flags=1),
        Check.EXECUTABLE_STACK,
        Severity.WARNING,
        "noexecstack",
    ),
    (_drop_protector, Check.NO_STACK_PROTECTOR, Severity.WARNING, "-fstack-protector"),
]


def test_an_image_of_the_sdk_has_the_lvi_warning_only(hello_world: Path) -> None:
    report = lint(hello_world.read_bytes(), "image")
    assert [(each.check, each.severity) for each in report.findings] == [
        (Check.LVI, Severity.WARNING)
    ]
    assert not report.signed


@pytest.mark.parametrize(("damage", "check", "severity", "what"), _BAD)
def test_each_fault_is_found_with_its_severity(
    hello_world: Path,
    damage: Callable[[bytearray], None],
    check: Check,
    severity: Severity,
    what: str,
) -> None:
    data = bytearray(hello_world.read_bytes())
    damage(data)
    found = [each for each in lint(bytes(data), "image").findings if each.check is check]
    assert [each.severity for each in found] == [severity]
    assert what in str(found[0])


def test_an_instruction_is_shown_with_address_and_function(hello_world: Path) -> None:
    data = bytearray(hello_world.read_bytes())
    _poke(data, "sgx_greet", _CPUID)
    first = lint(bytes(data), "image").findings[0]
    assert first.symbol == "sgx_greet"
    assert first.address == _elf(data).symbols["sgx_greet"]


def test_a_signed_image_is_judged_with_its_signature(
    hello_world: Path, signing_key: SigningKey, tmp_path: Path
) -> None:
    for disable, warned in ((0, True), (1, False)):
        output = tmp_path / f"{disable}.so"
        sign(hello_world, output, signing_key, config=EnclaveConfig(disable_debug=bool(disable)))
        report = lint(output.read_bytes(), "image")
        assert report.signed
        assert (Check.DEBUG_LAUNCH in {each.check for each in report.findings}) is warned
        assert report.count(Severity.ERROR) == 0


def test_what_is_allowed_is_counted_and_what_nothing_needs_is_told(hello_world: Path) -> None:
    data = bytearray(hello_world.read_bytes())
    _poke(data, "sgx_greet", _CPUID)
    allow = [Allow.parse("illegal-instruction@sgx_greet"), Allow.parse("no-relro")]
    report = lint(bytes(data), "image", allow=allow)
    assert [each.check for each in report.allowed] == [Check.ILLEGAL_INSTRUCTION]
    unused = [each for each in report.findings if each.check is Check.UNUSED_ALLOW]
    assert [each.what for each in unused] == ["nothing needs the allowance no-relro"]
    elsewhere = lint(bytes(data), "image", allow=[Allow.parse("illegal-instruction@malloc")])
    assert elsewhere.count(Severity.ERROR) == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("allow = 1", "no list"),
        ("allow = [1]", "no list"),
        ("allows = []", "unknown key 'allows'"),
        ('allow = ["lvl@x"]', "no check 'lvl'"),
        ("allow", "is not TOML"),
    ],
)
def test_a_wrong_allow_file_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "allow.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=fault):
        read_allow_file(path)


def test_a_file_that_is_cut_short_is_refused_at_any_length(hello_world: Path) -> None:
    data = hello_world.read_bytes()
    for length in range(0, len(data), 40009):
        with pytest.raises(FormatError):
            lint(data[:length], "image")


@pytest.mark.skipif(shutil.which("strip") is None, reason="needs strip (binutils)")
def test_a_stripped_image_names_functions_by_address(hello_world: Path, tmp_path: Path) -> None:
    data = bytearray(hello_world.read_bytes())
    address = _elf(data).symbols["sgx_greet"]
    _poke(data, "sgx_greet", _CPUID)
    path = tmp_path / "stripped.so"
    path.write_bytes(data)
    subprocess.run(["strip", path], check=True)
    assert "sgx_greet" not in _elf(path.read_bytes()).symbols
    first = lint(path.read_bytes(), "image").findings[0]
    assert (first.check, first.symbol) == (Check.ILLEGAL_INSTRUCTION, f"{address:#x}")
    allow = [Allow.parse(f"illegal-instruction@{address:#x}")]
    assert lint(path.read_bytes(), "image", allow=allow).count(Severity.ERROR) == 0


def test_bytes_of_no_function_only_look_illegal(hello_world: Path) -> None:
    data = bytearray(hello_world.read_bytes())
    elf = _elf(data)
    functions = Functions(elf)
    end = next(
        each.value + each.size
        for each in elf.defined_symbols
        if each.size and each.kind == 2 and not functions.known(each.value + each.size + 1)
    )
    offset, padding = elf.at_address(end, 2, "padding")
    assert bytes(padding).strip(b"\xcc\x90") == b""
    data[offset : offset + 2] = _CPUID
    found = {each.check: each.severity for each in lint(bytes(data), "image").findings}
    assert found.get(Check.LOOKS_ILLEGAL) is Severity.WARNING
    assert Check.ILLEGAL_INSTRUCTION not in found


def _look(*code: str) -> Fences:
    fences, at = Fences(lambda _: "f"), 0
    for each in code:
        content = bytes.fromhex(each)
        found = decode(content)
        assert found is not None
        assert found.length == len(content)
        fences.take(Place(at, content, found, known=True, certain=True))
        at += len(content)
    return fences


_FENCE, _RET, _SHL = "0faee8", "c3", "48c1242400"


@pytest.mark.parametrize(
    ("code", "level", "bare"),
    [
        ([_RET], Mitigation.NONE, Kind.RETURN),
        ([_FENCE, _RET], Mitigation.NONE, Kind.RETURN),
        ([_SHL, _FENCE, _RET], Mitigation.LOAD, None),
        (["48830c2400", _FENCE, _RET], Mitigation.LOAD, None),
        (["488b07", _SHL, _FENCE, _RET], Mitigation.CF, Kind.LOAD),
        (["488b07", _FENCE, "ffd0"], Mitigation.LOAD, None),
        (["59", _FENCE, "ffe1"], Mitigation.LOAD, None),
        (["59", "ffe1"], Mitigation.NONE, Kind.REGISTER),
        ([_FENCE, "ff27"], Mitigation.NONE, Kind.MEMORY),
        ([_FENCE, "41ff5308"], Mitigation.NONE, Kind.MEMORY),
    ],
)
def test_fences_make_the_level(code: list[str], level: Mitigation, bare: Kind | None) -> None:
    fences = _look(*code)
    assert fences.level is level
    assert bare is None or fences.tallies[bare].bare == 1
    assert fences.describe().count("in f") == sum(bool(t.bare) for t in fences.tallies.values())


def test_an_allowed_function_does_not_count_for_the_level(hello_world: Path) -> None:
    before = lint(hello_world.read_bytes(), "image").fences.tallies[Kind.RETURN]
    allow = [Allow.parse("lvi@sgx_greet")]
    report = lint(hello_world.read_bytes(), "image", allow=allow)
    after = report.fences.tallies[Kind.RETURN]
    assert before.total - after.total == before.functions["sgx_greet"] > 0
    assert {each.check for each in report.findings} == {Check.LVI}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("488b07", True), ("488907", False), ("480107", True), ("488d07", False), ("58", True),
        ("50", False), ("ff37", True), ("c9", True), ("d907", True), ("d91f", False),
        ("0f1f4000", False), ("0f1807", False), ("0f1007", True), ("0f1107", False),
        ("f30f7e07", True), ("660f7e07", False), ("0fae17", True), ("0fae1f", False),
        ("f20f38f107", True), ("0f38f107", False), ("660f3a160700", False), ("c5fd6f07", True),
        ("c5fd7f07", False), ("c5fa7e07", True), ("62f17c481107", False), ("62f17c481007", True),
        ("62f27e483107", False), ("62f27d483107", True), ("f3a4", False), ("a6", True),
        ("4889f8", False),
    ],
)  # fmt: skip
def test_loads_are_told_from_stores(code: str, expected: bool) -> None:
    found = decode(bytes.fromhex(code))
    assert found is not None
    assert loads(found) is expected


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["sdk", "lint", *arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_command_exits_with_what_it_found(
    hello_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(hello_world)
    assert _run(image) == 0
    assert "[lvi]" in capsys.readouterr().out
    assert _run(image, "--strict") == 1
    assert _run(image, "--strict", "--allow", "lvi") == 0
    assert _run(image, "--mitigation", "cf") == 1
    assert _run(image, "--allow", "nonsense@x") == 3
    assert _run(str(hello_world.parent / "absent")) == 2
    (tmp_path / "text").write_text("no image")
    assert _run(str(tmp_path / "text")) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_command_prints_json(hello_world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(hello_world), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["errors"], report["mitigation"]) == (0, "none")
    assert report["fences"]["return"]["bare"] == report["fences"]["return"]["total"] > 0
    assert report["findings"][0]["check"] == "lvi"
