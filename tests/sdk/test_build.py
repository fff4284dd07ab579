# SPDX-License-Identifier: Apache-2.0
import shutil
import struct
from pathlib import Path

import pytest

from ensconce.errors import ConfigError, FormatError, ToolchainError
from ensconce.image.elf import Elf, RelocationType, SegmentFlags, SegmentType
from ensconce.sdk.build import build
from ensconce.sdk.toolchain import Toolchain
from ensconce.sdk.toolchain_archives import trusted_archives
from ensconce.sdk.toolchain_crypto import crypto_source

_EDL = "enclave { trusted { public int answer(void); }; };"


def _write(folder: Path, body: str) -> tuple[Path, Path]:
    source, edl = folder / "enclave.c", folder / "enclave.edl"
    source.write_text('#include "enclave_t.h"\n' + body)
    edl.write_text(_EDL)
    return source, edl


def _elf(path: Path) -> Elf:
    return Elf(memoryview(path.read_bytes()), str(path))


def test_signer_and_loader_find_the_symbols_that_they_look_up(hello_world: Path) -> None:
    exported = {symbol.name for symbol in _elf(hello_world).dynamic_symbols}
    assert exported == {"enclave_entry", "g_global_data", "g_peak_heap_used"}


def test_the_signer_has_room_at_the_offset_where_it_looks(hello_world: Path) -> None:
    elf = _elf(hello_world)
    note = elf.section(".note.sgxmeta")
    assert note is not None
    content = bytes(elf.section_content(note))
    assert struct.unpack_from("<III", content) == (13, 0x6000, 1)
    assert content[12:25] == b"sgx_metadata\0"
    assert len(content) == 12 + 13 + 0x6000 + 3
    assert not any(content[25:])


def test_the_signers_patch_has_its_bytes_in_the_file(hello_world: Path) -> None:
    elf = _elf(hello_world)
    symbol = next(each for each in elf.dynamic_symbols if each.name == "g_global_data")
    assert symbol.size == 1768
    load = next(
        each
        for each in elf.segments
        if each.type == SegmentType.LOAD and 0 <= symbol.value - each.address < each.file_size
    )
    assert symbol.value + symbol.size <= load.address + load.file_size
    version = elf.content(load.offset + symbol.value - load.address, 8, "the version")
    assert int.from_bytes(version, "little") == 2 << 32 | 26 << 16 | 100


def test_an_image_relocates_itself_with_the_one_kind_it_knows(hello_world: Path) -> None:
    kinds = {each.type for each in _elf(hello_world).dynamic_relocations()}
    assert kinds == {RelocationType.RELATIVE}


def test_no_page_is_writable_and_executable(hello_world: Path) -> None:
    both = SegmentFlags.W | SegmentFlags.X
    assert all(each.flags & both != both for each in _elf(hello_world).segments)


def test_the_same_sources_elsewhere_give_the_same_bytes(
    toolchain: Toolchain, tmp_path: Path, hello_world: Path
) -> None:
    example = Path(__file__).parents[2] / "examples" / "01-hello-world"
    copy = shutil.copytree(example, tmp_path / "moved to" / "elsewhere")
    again = build(
        [copy / "enclave.c"], copy / "enclave.edl", tmp_path / "again.so", toolchain=toolchain
    )
    assert again.read_bytes() == hello_world.read_bytes()
    assert str(tmp_path).encode() not in again.read_bytes()


@pytest.mark.slow
def test_libraries_built_anew_give_the_same_bytes(toolchain: Toolchain, tmp_path: Path) -> None:
    fresh = Toolchain(toolchain.zig, tmp_path / "cache")
    fetched = crypto_source(toolchain)
    (tmp_path / "cache" / "sources").mkdir(parents=True)
    shutil.copy(fetched, tmp_path / "cache" / "sources")
    pairs = zip(trusted_archives(toolchain), trusted_archives(fresh), strict=True)
    for kept, made in pairs:
        assert kept.name == made.name
        assert kept.read_bytes() == made.read_bytes(), kept.name


def test_a_mistake_in_c_is_shown_with_the_compilers_own_words(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    source, edl = _write(tmp_path, "int answer(void) { return forty_two; }\n")
    with pytest.raises(ToolchainError, match="Could not compile") as caught:
        build([source], edl, tmp_path / "enclave.so", toolchain=toolchain)
    assert "enclave.c:2:27: error" in caught.value.output
    assert "forty_two" in caught.value.output
    assert not (tmp_path / "enclave.so").exists()


def test_a_function_that_nobody_wrote_is_named(toolchain: Toolchain, tmp_path: Path) -> None:
    source, edl = _write(tmp_path, "int fork_me(void);\nint answer(void) { return fork_me(); }\n")
    with pytest.raises(ToolchainError, match=r"Could not link enclave\.so.*fork_me"):
        build([source], edl, tmp_path / "enclave.so", toolchain=toolchain)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('__asm__("syscall");', "the instruction SYSCALL at .* in answer"),
        ('__asm__("cpuid" ::: "eax","ebx","ecx","edx");', "the instruction CPUID"),
        ('__asm__("int $0x80");', "the instruction INT"),
        ('__asm__(".byte 0x06");', "bytes that are no instruction"),
    ],
)
def test_an_instruction_that_faults_in_an_enclave_fails_the_build(
    toolchain: Toolchain, tmp_path: Path, body: str, fault: str
) -> None:
    source, edl = _write(tmp_path, "int answer(void) { " + body + " return 42; }\n")
    with pytest.raises(FormatError, match=fault):
        build([source], edl, tmp_path / "enclave.so", toolchain=toolchain)
    assert not (tmp_path / "enclave.so").exists()


def test_a_missing_file_is_named(toolchain: Toolchain, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file .*enclave\.edl"):
        build([], tmp_path / "enclave.edl", tmp_path / "enclave.so", toolchain=toolchain)


def test_a_mistake_in_the_edl_is_told_with_its_line(toolchain: Toolchain, tmp_path: Path) -> None:
    source, edl = _write(tmp_path, "int answer(void) { return 42; }\n")
    edl.write_text("enclave { trusted {\n public int answer(char* p); }; };")
    with pytest.raises(FormatError) as caught:
        build([source], edl, tmp_path / "enclave.so", toolchain=toolchain)
    assert caught.value.line == 2


def test_a_toolchain_that_lacks_a_part_says_so(toolchain: Toolchain, tmp_path: Path) -> None:
    source, edl = _write(tmp_path, "int answer(void) { return 42; }\n")
    with pytest.raises(ToolchainError, match="lacks its folder"):
        build([source], edl, tmp_path / "e.so", toolchain=Toolchain(tmp_path / "zig", tmp_path))
    (tmp_path / "lib").symlink_to(toolchain.library)
    with pytest.raises(ToolchainError, match="does not start"):
        build([source], edl, tmp_path / "e.so", toolchain=Toolchain(tmp_path / "zig", tmp_path))


def test_a_cache_that_cannot_be_written_says_how_to_choose_another(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ToolchainError, match="ENSCONCE_CACHE"):
        trusted_archives(Toolchain(toolchain.zig, tmp_path / "file"))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ENSCONCE_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/ensconce"),
        ({"HOME": "/c"}, "/c/.cache/ensconce"),
    ],
)
def test_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("ENSCONCE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Toolchain(Path("zig")).cache == Path(expected)


def test_a_libc_function_that_few_need_is_there_when_asked_for(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    body = "#include <math.h>\n#include <regex.h>\n"
    body += 'int answer(void) { regex_t r; return regcomp(&r, "a*", 0) + (int)cbrt(74088.0); }\n'
    source, edl = _write(tmp_path, body)
    output = build([source], edl, tmp_path / "enclave.so", toolchain=toolchain)
    assert "cbrt" in _elf(output).symbols


def test_a_damaged_source_package_is_not_used(toolchain: Toolchain, tmp_path: Path) -> None:
    kept = tmp_path / "sources" / crypto_source(toolchain).name
    kept.parent.mkdir()
    kept.write_bytes(b"not the package")
    damaged = Toolchain(toolchain.zig, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(ToolchainError, match="put the file at") as caught:
            crypto_source(damaged)
    assert "awscrt" in caught.value.output
    assert not kept.exists()
