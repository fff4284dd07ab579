# SPDX-License-Identifier: Apache-2.0
"""Metadata and SIGSTRUCT as the vendor's signing tool writes them, for every release."""

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.image.building import DATE, SMALL, EnclaveFile, Relocation, Symbol, signed

from ensconce.errors import ConfigError, FormatError
from ensconce.image import SdkImage, check_image, open_image
from ensconce.image.config import EnclaveConfig, Feature
from ensconce.image.enclave_elf import EnclaveElf
from ensconce.image.generation import GENERATIONS, Generation, generation_of
from ensconce.image.layout import RESERVE_GUARDS
from ensconce.image.linkage import check_linkage
from ensconce.image.metadata import ExtendId, LayoutEntry, LayoutGroup, LayoutId
from ensconce.image.metadata import PageAttributes as Page
from ensconce.image.recovery import recover_config
from ensconce.image.signing import prepare, prepare_again
from ensconce.image.sigstruct import DEBUG_HEADER
from ensconce.isa.attributes import AttributeFlags, Xfrm
from ensconce.isa.sigstruct import SigStruct

NEWEST = GENERATIONS[-1]
SDK_2_5 = next(each for each in GENERATIONS if each.sdk == (2, 5, 0))
DYNAMIC = replace(SMALL, misc_select=1, misc_mask=0xFFFFFFFE)


def file_of(generation: Generation = NEWEST, **fields: object) -> EnclaveElf:
    content = bytes(EnclaveFile(generation=generation, **fields))  # type: ignore[arg-type]  # by name
    return EnclaveElf(memoryview(content), "e.so")


def sigstruct_of(config: EnclaveConfig, generation: Generation = NEWEST) -> SigStruct:
    return prepare(file_of(generation), config, date=DATE).sigstruct


def image_of(content: bytes) -> SdkImage:
    return SdkImage.parse(memoryview(content), source="e.so")


def rows(content: bytes, copy: int = 0) -> list[tuple[int, int, int]]:
    """Return the layout of a copy: ids, page counts or repetitions, attributes or entries."""
    return [
        (row.id, row.page_count, int(row.attributes))
        if isinstance(row, LayoutEntry)
        else (row.id, row.load_times, row.entry_count)
        for row in image_of(content).file.metadata[copy].layout
    ]


# sizes of g_global_data as compilers gave them for the vendor's headers
@pytest.mark.parametrize(
    ("sdk", "size"),
    [
        ((2, 0, 0), 1488),
        ((2, 5, 0), 1488),
        ((2, 6, 0), 1632),
        ((2, 8, 0), 1648),
        ((2, 9, 1), 1656),
        ((2, 14, 0), 1680),
        ((2, 16, 0), 1688),
        ((2, 18, 0), 1688),
        ((2, 18, 1), 1720),
        ((2, 20, 0), 1760),
        ((2, 25, 0), 1768),
    ],
)
def test_a_release_s_global_data_has_the_size_of_its_headers(
    sdk: tuple[int, int, int], size: int
) -> None:
    assert next(each for each in GENERATIONS if each.sdk == sdk).global_data_size == size


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: str(each.sdk))
def test_the_release_of_an_unsigned_file_is_found(generation: Generation) -> None:
    assert generation_of(file_of(generation)) == generation


@pytest.mark.parametrize(
    ("release", "sdk"),
    [
        (b"SGX_TRTS_VERSION_2.1.42002", (2, 1, 0)),
        (b"SGX_TCXX_VERSION_2.1.102.43402", (2, 1, 0)),
        (b"SGX_TSTDC_VERSION_2.1.3.44322", (2, 1, 3)),
        (b"SGX_TSERVICE_VERSION_2.4.100.48163", (2, 4, 0)),
    ],
)
def test_releases_without_a_version_word_are_told_by_their_strings(
    release: bytes, sdk: tuple[int, int, int]
) -> None:
    assert generation_of(file_of(SDK_2_5, release=release)).sdk == sdk


def test_a_release_of_the_future_is_taken_for_the_newest() -> None:
    future = replace(NEWEST, sdk=(2, 99, 100))
    assert generation_of(file_of(future)) == NEWEST


def test_the_runtime_of_no_known_release_is_refused() -> None:
    odd = replace(NEWEST, slots=44)
    with pytest.raises(FormatError, match="g_global_data of 1800 bytes"):
        prepare(file_of(odd), SMALL, date=DATE)


def test_a_file_without_the_runtime_is_refused() -> None:
    content = bytes(EnclaveFile()).replace(b"g_global_data\0", b"g_global_datb\0")
    with pytest.raises(FormatError, match="exports no g_global_data"):
        prepare(EnclaveElf(memoryview(content), "e.so"), SMALL, date=DATE)


def test_an_enclave_without_dynamic_parts_is_heap_guard_and_threads(key: rsa.RSAPrivateKey) -> None:
    fixed = replace(
        SMALL, stack_min_size=0x4000, heap_min_size=0x10000, heap_max_size=0x10000, tcs_num=3
    )
    assert rows(signed(key, fixed)) == [
        (LayoutId.HEAP_MIN, 16, 1),
        (LayoutId.GUARD, 16, 0),
        (LayoutId.STACK_MIN, 4, 3),
        (LayoutId.GUARD, 16, 0),
        (LayoutId.TCS, 1, 3),
        (LayoutId.SSA, 2, 3),
        (LayoutId.GUARD, 16, 0),
        (LayoutId.TD, 1, 3),
        (LayoutId.THREAD_GROUP, 2, 7),
    ]


def test_the_newest_copy_of_a_dynamic_enclave_lists_every_kind_of_thread(
    key: rsa.RSAPrivateKey,
) -> None:
    config = replace(DYNAMIC, tcs_num=4, tcs_max_num=6, tcs_min_pool=1, heap_init_size=0x8000)
    content = signed(key, config)
    ids = [row[0] for row in rows(content)]
    thread = [10, 7, 8, 10, 4, 6, 10, 5]
    added = [10, 17, 18, 10, 14, 16, 10, 15]
    removed_group, added_group = LayoutId.THREAD_GROUP, LayoutId.THREAD_GROUP_DYN
    assert ids == [
        *(1, 2, 3),
        *(thread + thread + thread),
        removed_group,
        *added,
        added_group,
        LayoutId.USER_REGION,
        LayoutId.GUARD,
    ]
    plain = [row[0] for row in rows(content, 1)]
    assert plain == [1, 2, 3, *thread, LayoutId.THREAD_GROUP]
    assert rows(content, 1)[-1] == (LayoutId.THREAD_GROUP, 3, 8)


def test_the_plain_copy_leaves_a_hole_where_the_heap_could_grow(key: rsa.RSAPrivateKey) -> None:
    content = signed(key, replace(DYNAMIC, heap_init_size=0x8000))
    newest, plain = image_of(content).file.metadata
    grows, hole = newest.layout[2], plain.layout[2]
    assert isinstance(grows, LayoutEntry)
    assert isinstance(hole, LayoutEntry)
    assert (grows.attributes, grows.si_flags) == (Page.POST_ADD, 0x203)
    assert (hole.attributes, hole.si_flags, hole.page_count) == (Page(0), 0, grows.page_count)


@pytest.mark.parametrize(
    ("config", "versions"),
    [
        (SMALL, [(1, 5)]),
        (DYNAMIC, [(3, 3), (1, 5)]),
        (replace(DYNAMIC, misc_mask=0xFFFFFFFF), [(3, 3)]),
        (replace(DYNAMIC, misc_mask=0xFFFFFFFF, user_region_size=0x10000), [(3, 3)]),
    ],
)
def test_the_copies_are_those_that_the_platforms_in_question_load(
    key: rsa.RSAPrivateKey, config: EnclaveConfig, versions: list[tuple[int, int]]
) -> None:
    assert [copy.version for copy in image_of(signed(key, config)).file.metadata] == versions


def test_reserved_memory_goes_behind_the_threads_executable_if_asked(
    key: rsa.RSAPrivateKey,
) -> None:
    config = replace(SMALL, reserved_mem_max_size=0x3000, reserved_mem_executable=1)
    image = image_of(signed(key, config))
    placed = {entry.id: (entry.size, entry.si_flags) for entry, _ in image.metadata.placed()}
    assert placed[LayoutId.RSRV_INIT] == (0x3000, 0x207)
    assert LayoutId.RSRV_MAX not in placed


def test_reserved_memory_of_old_releases_fills_the_enclave(key: rsa.RSAPrivateKey) -> None:
    old = next(each for each in GENERATIONS if each.sdk == (2, 9, 1))
    config = replace(SMALL, reserved_mem_max_size=0x3000)
    image = image_of(signed(key, config, EnclaveFile(generation=old)))
    last = image.file.metadata[0].layout[-1]
    assert isinstance(last, LayoutEntry)
    assert last.id == LayoutId.RSRV_INIT
    assert last.rva + last.size == image.size


def test_the_room_for_bookkeeping_is_told_to_the_runtime(key: rsa.RSAPrivateKey) -> None:
    content = signed(key, DYNAMIC)
    image = image_of(content)
    newest = image.file.metadata[0]
    region = next(newest.entries(LayoutId.USER_REGION))
    patch = newest.patches[0]
    overhead = bytes(newest.content(patch.src + NEWEST.global_data_size - 16, 8))
    assert int.from_bytes(overhead, "little") == region.size - RESERVE_GUARDS == 0x10000


def test_thread_local_data_lies_right_before_the_thread_data(key: rsa.RSAPrivateKey) -> None:
    image = image_of(signed(key, file=EnclaveFile(tls=(0x1234, 64))))
    data = next(image.metadata.entries(LayoutId.TD))
    patch, words = image.metadata.patches[0], NEWEST.words
    at = patch.src + 8 * len(words) + 8 * NEWEST.thread.index("tls_addr")
    tls = int.from_bytes(image.metadata.content(at, 8), "little")
    own = int.from_bytes(image.metadata.content(patch.src + 8 * len(words), 8), "little")
    assert data.page_count == 3
    assert own - tls == 0x1240


def test_the_sigstruct_says_what_the_configuration_says() -> None:
    sigstruct = sigstruct_of(
        replace(
            SMALL,
            release_type=1,
            intel_signed=1,
            provision_key=1,
            disable_debug=1,
            misc_select=3,
            misc_mask=1,
            enable_aex_notify=1,
        )
    )
    assert (sigstruct.header, sigstruct.vendor, sigstruct.date) == (DEBUG_HEADER, 0x8086, DATE)
    flags = AttributeFlags.MODE64BIT | AttributeFlags.PROVISIONKEY | AttributeFlags.AEXNOTIFY
    assert sigstruct.attributes.flags == flags
    assert int(sigstruct.attribute_mask.flags) == 0xFF00FFFFFFFFFFFF
    assert (sigstruct.misc_select, sigstruct.misc_mask) == (1, 1)
    assert (sigstruct.isv_prod_id, sigstruct.isv_svn) == (7, 3)


def test_a_launch_enclave_sets_hw_and_its_attribute() -> None:
    sigstruct = sigstruct_of(replace(SMALL, hw=2, launch_key=1))
    assert sigstruct.sw_defined == 2
    assert AttributeFlags.EINITTOKENKEY in sigstruct.attributes.flags


@pytest.mark.parametrize(
    ("pkru", "amx", "xfrm", "open_bits"),
    [
        (Feature.DISABLED, Feature.DISABLED, 0x3, 0xE4),
        (Feature.ENABLED, Feature.DISABLED, 0x203, 0xE4),
        (Feature.LOADER_SELECTS, Feature.ENABLED, 0x60003, 0x2E4),
        (Feature.DISABLED, Feature.LOADER_SELECTS, 0x3, 0x600E4),
    ],
)
def test_xfrm_is_fixed_on_fixed_off_or_left_to_the_loader(
    pkru: Feature, amx: Feature, xfrm: int, open_bits: int
) -> None:
    sigstruct = sigstruct_of(replace(SMALL, pkru=pkru, amx=amx))
    assert int(sigstruct.attributes.xfrm) == xfrm
    assert int(sigstruct.attribute_mask.xfrm) == (1 << 64) - 1 & ~open_bits


def test_amx_takes_larger_ssa_frames(key: rsa.RSAPrivateKey) -> None:
    image = image_of(signed(key, replace(SMALL, amx=Feature.LOADER_SELECTS)))
    assert image.ssa_frame_size == 3
    assert next(image.metadata.entries(LayoutId.SSA)).page_count == 6
    assert Xfrm.TILEDATA in image.attributes.xfrm


def test_a_fips_enclave_carries_a_second_signature_over_its_sigstruct(
    key: rsa.RSAPrivateKey,
) -> None:
    image = image_of(signed(key, replace(SMALL, enable_ipp_fips=1)))
    entry = image.metadata.extensions[ExtendId.FIPS_SIGNATURE]
    content = bytes(image.metadata.content(entry.offset, entry.size))
    modulus, exponent = content[:384], int.from_bytes(content[384:388], "little")
    public = rsa.RSAPublicNumbers(exponent, int.from_bytes(modulus, "little")).public_key()
    public.verify(content[388:], bytes(image.sigstruct), padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"enable_kss": 1}, "EnableKSS"),
        ({"reserved_mem_max_size": 0x1000}, "ReservedMemMaxSize"),
        ({"elrange_size": 1 << 30}, "ELRangeSize"),
        ({"amx": 1}, "AMX"),
        ({"enable_aex_notify": 1}, "EnableAEXNotify"),
    ],
)
def test_what_a_release_does_not_know_is_refused(change: dict[str, int], name: str) -> None:
    old = next(each for each in GENERATIONS if each.sdk == (2, 1, 3))
    with pytest.raises(ConfigError, match=f"{name} needs an enclave built with SDK"):
        prepare(file_of(old), replace(SMALL, **change), date=DATE)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"enable_ossl_fips": 1}, "EnableOSSLFIPS"),
        ({"heap_max_size": 1 << 50}, "asks for"),
        ({"heap_max_size": 1 << 60}, "asks for HEAP_INIT"),
        ({"tcs_num": 0xFFFFFFFF}, "asks for an enclave|repeats a thread"),
        ({"elrange_size": 0x10000}, "ELRangeSize 0x10000 is too small"),
        ({"stack_min_size": 0x1000}, "StackMinSize is 0x1000"),
    ],
)
def test_a_configuration_that_no_enclave_can_have_is_refused(
    change: dict[str, int], fault: str
) -> None:
    with pytest.raises((ConfigError, FormatError), match=fault):
        prepare(file_of(), replace(SMALL, **change), date=DATE)


def test_metadata_that_does_not_fit_the_note_is_refused() -> None:
    with pytest.raises(ConfigError, match="of the 0x800 that the enclave's note has"):
        prepare(file_of(note_size=0x800), SMALL, date=DATE)


CONFIGS = st.builds(
    EnclaveConfig,
    isv_svn=st.integers(0, 0xFFFF),
    disable_debug=st.integers(0, 1),
    tcs_num=st.integers(1, 5),
    tcs_max_num=st.one_of(st.none(), st.integers(6, 8)),
    tcs_min_pool=st.integers(0, 5),
    tcs_policy=st.integers(0, 1),
    stack_max_size=st.integers(2, 6).map(lambda pages: pages * 4096),
    heap_min_size=st.integers(1, 2).map(lambda pages: pages * 4096),
    heap_init_size=st.integers(2, 4).map(lambda pages: pages * 4096),
    heap_max_size=st.integers(4, 6).map(lambda pages: pages * 4096),
    reserved_mem_max_size=st.sampled_from((0, 0x4000)),
    reserved_mem_init_size=st.just(0),
    misc_select=st.integers(0, 1),
    misc_mask=st.sampled_from((0xFFFFFFFE, 0xFFFFFFFF)),
    pkru=st.integers(0, 2),
    amx=st.integers(0, 2),
).filter(lambda config: not config.fault())


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(config=CONFIGS)
def test_the_configuration_of_a_signed_enclave_makes_it_again(
    key: rsa.RSAPrivateKey, config: EnclaveConfig
) -> None:
    content = signed(key, config)
    file = image_of(content).file
    found = recover_config(file.metadata[0], generation_of(file))
    again = prepare(file, found, date=DATE, resign=True)
    note = again.copies.sign(file.metadata[0].header.sigstruct)
    assert content[file.note_offset : file.note_offset + len(note)] == note
    assert again.sigstruct.signed_bytes() == file.metadata[0].header.sigstruct.signed_bytes()


# SHA-256 prefixes of the notes that the releases' own signing tools write for the same input
NOTES = {
    (2, 0, 0): "adca2bfe8c42b8ee",
    (2, 1, 0): "c3fd3b7fd10a6ce1",
    (2, 1, 3): "60882d60b18618cb",
    (2, 2, 0): "4e60e2e4c8863b3c",
    (2, 4, 0): "8314e605f2694b28",
    (2, 5, 0): "3add86f92fd9c04d",
    (2, 6, 0): "2cceadbd298eadf8",
    (2, 8, 0): "9aa8428c75eabc24",
    (2, 9, 1): "4e4e779cf8f0cafd",
    (2, 14, 0): "e4351b439ad6c8b2",
    (2, 16, 0): "204abdedb71666f3",
    (2, 18, 0): "5080b8715eea4f20",
    (2, 18, 1): "1f93d6f3420ed3f3",
    (2, 20, 0): "6925a2100d9f8119",
    (2, 22, 0): "7491f1fd3d586ee6",
    (2, 24, 0): "3a2a8cadb1716782",
    (2, 25, 0): "223f9cda861d1ac7",
    (2, 26, 0): "ce1c4f0ff811d4c2",
}


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: str(each.sdk))
def test_the_note_is_byte_for_byte_what_the_release_s_own_tool_writes(
    generation: Generation,
) -> None:
    config = replace(DYNAMIC, tcs_num=4, tcs_max_num=6, tcs_min_pool=1, heap_max_size=0x11000)
    if generation.slots < 42:
        config = replace(config, tcs_max_num=None)
    prepared = prepare(file_of(generation, tls=(0x123, 16)), config, date=DATE)
    note = prepared.copies.sign(prepared.sigstruct)
    assert hashlib.sha256(note).hexdigest()[:16] == NOTES[generation.sdk]


def test_more_layout_entries_than_the_runtime_has_are_refused() -> None:
    config = replace(DYNAMIC, tcs_num=5, tcs_max_num=6, tcs_min_pool=2, heap_init_size=0x8000)
    with pytest.raises(ConfigError, match="more layout entries than the runtime has"):
        prepare(file_of(SDK_2_5), config, date=DATE)


def test_a_signed_file_is_not_signed_again_by_accident(enclave: bytes) -> None:
    with pytest.raises(ConfigError, match="signed already; to replace its signature say -resign"):
        prepare(image_of(enclave).file, SMALL, date=DATE)


def test_signing_again_keeps_everything_but_key_and_date(enclave: bytes) -> None:
    file = image_of(enclave).file
    again = prepare_again(file, date=0x20250101)
    before = file.metadata[0].header.sigstruct
    assert again.sigstruct == replace(before, date=0x20250101)
    assert again.copies.copies == tuple(bytes(copy.data) for copy in file.metadata)
    with pytest.raises(ConfigError, match="not signed yet"):
        prepare_again(file_of(), date=DATE)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"symbols": [Symbol("puts", section=0)]}, "does not define puts"),
        ({"symbols": [Symbol(f"f{n}", section=0) for n in range(7)]}, "f4 and 2 more"),
        ({"relocations": [Relocation(0x9000, 37)]}, "relocation of type 37 at 0x9000"),
        ({"relocations": [Relocation(0x1010)]}, "relocations in code at 0x1010"),
        ({"sections": [(".init", 1, 6)]}, r"a section \.init"),
        ({"sections": [(".ctors", 1, 2)]}, r"a section \.ctors"),
        ({"symbols": [Symbol("g_global_data_sim", 0x9000)]}, "mixes the simulation library"),
    ],
)
def test_a_file_that_could_not_run_is_not_signed(fields: dict[str, object], fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        prepare(file_of(**fields), SMALL, date=DATE)  # type: ignore[arg-type]  # by name


def test_weak_symbols_may_stay_undefined() -> None:
    check_linkage(file_of(symbols=[Symbol("__cxa_finalize", section=0, binding=2)]))


def test_relocations_in_code_and_an_init_section_can_be_allowed() -> None:
    file = file_of(relocations=[Relocation(0x1010)], sections=[(".init", 1, 6)])
    check_linkage(file, text_relocations_allowed=True, init_section_allowed=True)


def test_a_group_is_unrolled_behind_its_entries(enclave: bytes) -> None:
    metadata = image_of(enclave).metadata
    group = metadata.layout[-1]
    assert isinstance(group, LayoutGroup)
    threads = [at for entry, at in metadata.placed() if entry.id == LayoutId.TCS]
    assert threads[1] - threads[0] == group.load_step
    assert check_image(open_image(enclave)).memory.threads == 2
