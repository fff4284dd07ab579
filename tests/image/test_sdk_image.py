# SPDX-License-Identifier: Apache-2.0
"""SDK enclaves as page streams, beside a plain measurement of the same files."""

import struct
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.image.building import DATE, SMALL, EnclaveFile, Relocation, Symbol, patched, signed
from tests.image.plain import plain_mrenclave

from ensconce.errors import ConfigError, FormatError, UnsignedError
from ensconce.image import ALL_CHUNKS, Mode, PageRun, SdkImage, verify_image
from ensconce.image.builder import build_metadata, unsigned_sigstruct
from ensconce.image.config import EnclaveConfig
from ensconce.image.enclave_elf import EnclaveElf
from ensconce.image.generation import GENERATIONS, Generation
from ensconce.isa.secinfo import PageType, page_type
from ensconce.isa.tcs import Tcs

DYNAMIC = replace(
    SMALL, tcs_num=4, tcs_max_num=6, tcs_min_pool=1, misc_select=1, misc_mask=0xFFFFFFFE
)


def parse(content: bytes, *, dynamic_memory: bool = True) -> SdkImage:
    return SdkImage.parse(memoryview(content), source="e.so", dynamic_memory=dynamic_memory)


def pages(image: SdkImage) -> dict[int, tuple[int, bytes]]:
    """Return flags and contents of the measured pages by their offsets."""
    found = {}
    for run in image.operations():
        for first, count, content in run.chunks():
            for index in range(count) if run.extended else ():
                page = (
                    bytes(4096) if content is None else content[index * 4096 : index * 4096 + 4096]
                )
                found[run.offset + (first + index) * 4096] = (run.flags, bytes(page))
    return found


CONFIGS = st.builds(
    EnclaveConfig,
    tcs_num=st.integers(1, 5),
    tcs_max_num=st.one_of(st.none(), st.integers(5, 8)),
    tcs_min_pool=st.one_of(st.none(), st.integers(0, 4)),
    stack_max_size=st.integers(2, 6).map(lambda pages: pages * 4096),
    heap_min_size=st.integers(0, 2).map(lambda pages: pages * 4096),
    heap_init_size=st.integers(2, 4).map(lambda pages: pages * 4096),
    heap_max_size=st.integers(4, 6).map(lambda pages: pages * 4096),
    misc_select=st.integers(0, 1),
    misc_mask=st.integers(0, 1).map(lambda bit: 0xFFFFFFFE | bit),
).filter(lambda config: not config.fault())


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(config=CONFIGS, generation=st.sampled_from(GENERATIONS))
def test_every_copy_of_the_metadata_measures_as_the_plain_version(
    key: rsa.RSAPrivateKey, config: EnclaveConfig, generation: Generation
) -> None:
    try:
        content = signed(key, config, EnclaveFile(generation=generation))
    except ConfigError:  # older runtimes have no room for a table with all kinds of threads
        assume(generation.slots >= 42)
        raise
    image = parse(content)
    for metadata in image.file.metadata:
        copy = SdkImage(image.file, metadata)
        assert copy.measure() == copy.sigstruct.enclave_hash
        assert copy.measure() == plain_mrenclave(content, metadata.offset)


def test_a_whole_page_is_a_view_of_the_file_and_not_a_copy(enclave: bytes) -> None:
    runs = [run for run in parse(enclave).operations() if isinstance(run.content, memoryview)]
    assert sum(run.count for run in runs) == 2  # code between headers and its last page
    assert all(run.content is not None and run.content.obj is enclave for run in runs)  # type: ignore[union-attr]  # just filtered


def test_patches_change_the_pages_and_not_the_file(enclave: bytes) -> None:
    image = parse(enclave)
    measured = pages(image)
    assert enclave[40:48] != bytes(8)
    assert measured[0][1][40:48] == bytes(8)
    assert measured[0][1][60:64] == bytes(4)
    size = image.metadata.header.enclave_size
    assert measured[0x8000][1][0xF48:0xF50] == size.to_bytes(8, "little")


def test_a_segment_that_starts_and_ends_in_a_page_is_filled_with_zeros(enclave: bytes) -> None:
    measured = pages(parse(enclave))
    assert measured[0x8000][1][:0xF40] == bytes(0xF40)
    assert measured[0x3000][1][0x800:] == bytes(0x800)
    assert measured[0xA000][1][0x740:] == bytes(4096 - 0x740)
    assert measured[0xB000] == (0x203, bytes(4096))


def test_text_relocations_make_their_pages_writable_across_a_boundary(
    key: rsa.RSAPrivateKey,
) -> None:
    file = EnclaveFile(
        text_relocations=True, relocations=[Relocation(0x1FFC), Relocation(0x3008, type=0)]
    )
    content = signed(key, file=file, checks=False)
    image = parse(content)
    flags = {offset: flags for offset, (flags, _) in pages(image).items() if offset < 0x4000}
    assert flags == {0: 0x205, 0x1000: 0x207, 0x2000: 0x207, 0x3000: 0x205}
    assert image.measure() == plain_mrenclave(content, image.metadata.offset)


def test_a_tcs_points_to_its_own_thread(enclave: bytes) -> None:
    image = parse(enclave)
    assert [slot.dynamic for slot in image.threads()] == [False, False]
    for slot in image.threads():
        tcs = Tcs.parse(pages(image)[slot.offset][1])
        assert (tcs.ossa, tcs.nssa, tcs.oentry) == (slot.offset + 0x1000, 2, 0x1000)
        assert tcs.ofs_base == tcs.ogs_base == slot.offset + 0x1000 + 2 * 4096 + 0x10000


def test_threads_that_are_removed_or_added_later_are_told_apart(key: rsa.RSAPrivateKey) -> None:
    content = signed(key, DYNAMIC)
    grown = list(parse(content).threads())
    # the signing tool provides one more than TCSMaxNum asks for
    assert [slot.dynamic for slot in grown] == [False] * 2 + [True] * 5
    plain = parse(content, dynamic_memory=False)
    assert plain.format == "sdk 1.5"
    assert [slot.dynamic for slot in plain.threads()] == [False] * 4


def test_a_platform_without_edmm_gets_the_plain_copy_and_the_same_measurement(
    key: rsa.RSAPrivateKey,
) -> None:
    content = signed(key, DYNAMIC)
    newest, plain = parse(content), parse(content, dynamic_memory=False)
    assert (newest.format, plain.format) == ("sdk 3.3", "sdk 1.5")
    assert newest.measure() == plain.measure()


def test_a_retired_copy_is_used_only_when_there_is_no_other(key: rsa.RSAPrivateKey) -> None:
    content = signed(key, file=EnclaveFile(generation=GENERATIONS[4]))
    image = parse(content)
    assert [copy.version for copy in image.file.metadata] == [(2, 4), (2, 1), (1, 4)]
    assert image.format == "sdk 1.4"
    alone = patched(content, image.file.metadata[1].offset, ("Q", 0))
    assert parse(alone).format == "sdk 2.4"


def test_a_heap_of_64_gib_is_one_run() -> None:
    heap = 64 << 30
    content = bytearray(bytes(EnclaveFile()))
    file = EnclaveElf(memoryview(bytes(content)), "e.so")
    sigstruct = unsigned_sigstruct(SMALL, GENERATIONS[-1], DATE)
    config = replace(SMALL, heap_max_size=heap)
    note = build_metadata(file, config, GENERATIONS[-1], sigstruct).sign(sigstruct)
    content[file.note_offset : file.note_offset + len(note)] = note
    runs = [run for run in parse(bytes(content)).operations() if run.count > 1 << 20]
    assert runs == [PageRun(0xD000, (heap >> 12) - 1, 0x203, None, 0)]


def test_an_elrange_of_its_own_moves_every_page(key: rsa.RSAPrivateKey) -> None:
    config = replace(
        SMALL,
        enclave_image_address=0x10_0040_0000,
        elrange_start_address=0x10_0000_0000,
        elrange_size=0x4000_0000,
    )
    content = signed(key, config)
    image = parse(content)
    assert (image.base, image.size, image.image_offset) == (0x10_0000_0000, 0x4000_0000, 0x40_0000)
    assert min(run.offset for run in image.operations()) == 0x40_0000
    assert image.symbols["enclave_entry"] == 0x40_1000
    assert image.measure() == plain_mrenclave(content, image.metadata.offset)


def test_a_loader_of_metadata_1_3_adds_a_page_after_some_segments(key: rsa.RSAPrivateKey) -> None:
    content = signed(key, file=EnclaveFile(data_memory=0x2001))
    old = patched(content, parse(content).metadata.offset + 8, ("I", 3), ("I", 1))
    image = parse(old)
    added = [run for run in image.operations() if run not in parse(content).operations()]
    assert image.format == "sdk 1.3"
    assert added == [PageRun(0xB000, 1, 0x203, None, ALL_CHUNKS)]


def test_segments_and_layout_share_no_page(key: rsa.RSAPrivateKey) -> None:
    content = signed(key)
    image = parse(content)
    at = image.metadata.offset + int.from_bytes(image.metadata.content(1880, 4), "little")
    with pytest.raises(FormatError, match="pages over the segment at 0x8000"):
        parse(patched(content, at + 8, ("Q", 0xB000)))


def test_enclu_anywhere_in_executable_parts_means_a_processor(key: rsa.RSAPrivateKey) -> None:
    assert parse(signed(key)).mode is Mode.HW
    silent = signed(key, file=EnclaveFile(code=b"\xc3"))
    assert parse(silent).mode is Mode.SIM
    moved = bytearray(silent)
    moved[0x37FD:0x3800] = b"\x0f\x01\xd7"
    assert parse(bytes(moved)).mode is Mode.HW


def test_the_simulation_library_s_symbol_means_simulation(key: rsa.RSAPrivateKey) -> None:
    file = EnclaveFile(code=b"\xc3", symbols=[Symbol("g_global_data_sim", 0x9000, 8)])
    assert parse(signed(key, file=file)).mode is Mode.SIM


def test_an_unsigned_file_is_refused_with_the_command_that_mends_it() -> None:
    with pytest.raises(UnsignedError, match=r"e\.so is not signed.*enclave sign"):
        parse(bytes(EnclaveFile()))


def test_memory_counts_what_the_layout_provides(key: rsa.RSAPrivateKey) -> None:
    memory = verify_image(parse(signed(key, DYNAMIC))).memory
    assert (memory.threads, memory.threads_max) == (2, 7)
    assert (memory.heap, memory.heap_max) == (0x10000, 0x10000)
    assert (memory.stack, memory.stack_max) == (0x2000, 0x4000)
    assert memory.added - memory.measured == 0x10000


def test_a_small_file_can_not_ask_for_hours_of_measuring(enclave: bytes) -> None:
    image = parse(enclave)
    huge = patched(enclave, image.metadata.offset + 40, ("Q", 1 << 46))
    table = image.metadata.offset + int.from_bytes(image.metadata.content(1880, 4), "little")
    last = table + 32 * (len(image.metadata.layout) - 1)
    row = (("H", 1), ("H", 3), ("I", 1 << 31), ("Q", 1 << 45), ("Q", 0), ("Q", 0x203))
    with pytest.raises(FormatError, match="bytes to measure, more than any enclave"):
        parse(patched(huge, last, *row))
    with pytest.raises(FormatError, match="bytes to measure, more than any enclave"):
        parse(patched(huge, 64 + 56 + 40, ("Q", 1 << 40)))


def test_releases_before_2_0_numbered_their_layout_otherwise(enclave: bytes) -> None:
    image = parse(enclave)
    table = image.metadata.offset + int.from_bytes(image.metadata.content(1880, 4), "little")
    old = {1: 1, 4: 2, 5: 3, 6: 4, 8: 5, 10: 7}
    renumbered = enclave
    for index, row in enumerate(image.metadata.layout):
        if row.id in old:
            renumbered = patched(renumbered, table + 32 * index, ("H", old[row.id]))
    memory = verify_image(parse(renumbered)).memory
    assert (memory.threads, memory.heap, memory.stack) == (2, 0x1000, 0x2000)


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: str(each.sdk))
def test_a_dynamic_enclave_of_every_release_measures_in_every_copy(
    key: rsa.RSAPrivateKey, generation: Generation
) -> None:
    content = signed(key, DYNAMIC, EnclaveFile(generation=generation))
    image = parse(content)
    for copy in image.file.metadata:
        assert plain_mrenclave(content, copy.offset) == image.sigstruct.enclave_hash


def test_an_entry_with_contents_of_its_own_is_measured_and_padded(enclave: bytes) -> None:
    image = parse(enclave)
    table = image.metadata.offset + int.from_bytes(image.metadata.content(1880, 4), "little")
    filled = patched(enclave, table + 16, ("I", 100), ("I", 8))
    first = next(run for run in parse(filled).operations() if run.offset == 0xC000)
    assert first.content == bytes(image.metadata.content(8, 100)).ljust(4096, b"\0")
    assert first.extended == ALL_CHUNKS


def test_a_second_elf_file_behind_the_first_is_loaded_too(enclave: bytes) -> None:
    inner = bytes(EnclaveFile())
    at = parse(enclave).metadata.offset
    metadata = bytes(parse(enclave).metadata.data)
    size, image = len(metadata), 1 << 24
    extension = struct.pack("<IIII", 0x1002, 32, size + 16, 0)
    extension += struct.pack("<QQQQ", len(enclave), image, len(inner), 0)
    metadata = patched(metadata + extension, 16, ("I", size + 48))
    metadata = patched(metadata, 40, ("Q", 1 << 25))
    metadata = patched(metadata, 1896, ("I", size), ("I", 16))
    both = parse(enclave[:at] + metadata + enclave[at + len(metadata) :] + inner)
    alone = parse(enclave)
    second = [run for run in both.operations() if run.offset >= image]
    assert [(run.offset - image, run.count, run.flags) for run in second] == [
        (0, 3, 0x205),
        (0x3000, 1, 0x205),
        (0x8000, 1, 0x203),
        (0x9000, 1, 0x203),
        (0xA000, 1, 0x203),
        (0xB000, 1, 0x203),
    ]
    assert len(list(both.operations())) == len(list(alone.operations())) + len(second)


def test_only_whole_pages_of_known_types_are_added(enclave: bytes) -> None:
    for run in parse(enclave).operations():
        assert run.offset % 4096 == 0
        assert run.extended in (0, ALL_CHUNKS)
        assert page_type(run.flags) in (PageType.REG, PageType.TCS)
