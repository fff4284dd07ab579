# SPDX-License-Identifier: Apache-2.0
"""A small enclave of the tests' own, and the devices that every test runs on."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from ensconce.enclave import Device, Enclave, KernelDevice, load
from ensconce.errors import DeviceError
from ensconce.image import (
    ALL_CHUNKS,
    Mode,
    PageRun,
    key_signer,
    measure_runs,
    sign_sigstruct,
)
from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from ensconce.isa.measurement import MrEnclave
from ensconce.isa.secinfo import PAGE_SIZE, PageType, secinfo_flags
from ensconce.isa.sigstruct import SigStruct
from ensconce.isa.tcs import Tcs, TcsFlags
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor

SAMPLE = Path(__file__).parent / "sample"
SIZE = 0x1000000
THREADS = 0x10000
HEAP = 0x100000
_STRIDE = 0x8000
_RW = secinfo_flags(PageType.REG, 3)
_ATTRIBUTES = Attributes(AttributeFlags.MODE64BIT, Xfrm.LEGACY)
_MASK = Attributes(~AttributeFlags.DEBUG, Xfrm(0))
_NO_MISC = MiscSelect(0)


@dataclass(frozen=True)
class Built:
    """The sample's pages and symbols."""

    text: bytes
    data: bytes
    symbols: Mapping[str, int]


@dataclass
class SampleImage:
    """An image made by hand; fields that tests change come before it is signed."""

    built: Built
    key: rsa.RSAPrivateKey
    threads: int = 2
    heap_pages: int = 16
    source: str = "sample"
    format: str = "test"
    size: int = SIZE
    base: int | None = None
    ssa_frame_size: int = 1
    attributes: Attributes = _ATTRIBUTES
    attribute_mask: Attributes = _MASK
    misc_select: MiscSelect = _NO_MISC
    mode: Mode = Mode.HW
    sigstruct: SigStruct | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def symbols(self) -> Mapping[str, int]:
        return self.built.symbols

    def operations(self) -> Iterator[PageRun]:
        built = self.built
        text = secinfo_flags(PageType.REG, 5)
        yield PageRun(0, len(built.text) // PAGE_SIZE, text, built.text, ALL_CHUNKS)
        yield PageRun(len(built.text), len(built.data) // PAGE_SIZE, _RW, built.data, ALL_CHUNKS)
        for index in range(self.threads):
            at = THREADS + index * _STRIDE
            tcs = at + 4 * PAGE_SIZE
            notify = bool(self.attributes.flags & AttributeFlags.AEXNOTIFY)
            page = bytes(
                Tcs(
                    flags=TcsFlags.AEXNOTIFY if notify else TcsFlags(0),
                    ossa=tcs + PAGE_SIZE,
                    nssa=2,
                    ofs_base=tcs + 3 * PAGE_SIZE,
                    ogs_base=tcs + 3 * PAGE_SIZE,
                    fs_limit=0xFFFFFFFF,
                    gs_limit=0xFFFFFFFF,
                )
            )
            yield PageRun(at, 4, _RW, None, 0)
            yield PageRun(tcs, 1, secinfo_flags(PageType.TCS), page, ALL_CHUNKS)
            yield PageRun(tcs + PAGE_SIZE, 3, _RW, None, ALL_CHUNKS)
        if self.heap_pages:
            yield PageRun(HEAP, self.heap_pages, _RW, None, 0)

    def measure(self) -> MrEnclave:
        return measure_runs(self.size, self.ssa_frame_size, self.operations())

    def signed(self) -> "SampleImage":
        """Make the SIGSTRUCT; `changes` go into it before it is signed."""
        fields: dict[str, Any] = {
            "attributes": self.attributes & self.attribute_mask,
            "attribute_mask": self.attribute_mask,
            "misc_mask": MiscSelect(0xFFFFFFFF),
            "enclave_hash": self.measure(),
        } | self.changes
        unsigned = SigStruct(**fields)
        public = self.key.public_key()
        self.sigstruct = sign_sigstruct(unsigned, public, key_signer(self.key))
        return self


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sample, compiled by gcc."""
    folder = tmp_path_factory.mktemp("sample")
    elf, flat = folder / "sample.elf", folder / "sample.bin"
    options = (
        "-O1 -ffreestanding -mno-red-zone -fPIE -fno-stack-protector -fcf-protection=none -mno-avx "
        "-fno-asynchronous-unwind-tables -fvisibility=hidden -Wall -Wextra -Werror -nostdlib "
        f"-static -Wl,--build-id=none,-z,norelro,-T,{SAMPLE / 'sample.lds'} -DHEAP={HEAP}"
    )
    sources = [str(SAMPLE / "entry.S"), str(SAMPLE / "sample.c")]
    subprocess.run(["gcc", *options.split(), "-o", str(elf), *sources], check=True)
    subprocess.run(["objcopy", "-O", "binary", str(elf), str(flat)], check=True)
    listing = subprocess.run(["nm", str(elf)], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    symbols = {row[2]: int(row[0], 16) for row in rows if len(row) == 3}
    content = flat.read_bytes()
    content = content.ljust(-(-len(content) // PAGE_SIZE) * PAGE_SIZE, b"\0")
    return Built(content[:-PAGE_SIZE], content[-PAGE_SIZE:], symbols)


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(3, 3072)


@pytest.fixture
def image(built: Built, key: rsa.RSAPrivateKey) -> Callable[..., SampleImage]:
    """Make a signed sample with changed fields."""

    def make(**fields: Any) -> SampleImage:
        return SampleImage(built, key, **fields).signed()

    return make


@pytest.fixture(scope="session")
def processor() -> Processor:
    return Processor(Identity.generate(), epc_size=64 << 20)


@pytest.fixture(params=["emulated", pytest.param("hardware", marks=pytest.mark.hardware)])
def device(request: pytest.FixtureRequest, processor: Processor) -> Callable[[], Device]:
    """What makes devices of one backend."""
    if request.param == "emulated":
        return lambda: DriverModel(processor)
    try:
        KernelDevice().close()
    except DeviceError as error:
        pytest.skip(str(error))
    return KernelDevice


@pytest.fixture
def start(
    image: Callable[..., SampleImage], device: Callable[[], Device]
) -> Iterator[Callable[..., Enclave]]:
    """Load samples and close them at the end; fields of the image and options of `load` mix."""
    loaded: list[Enclave] = []

    def load_sample(**options: Any) -> Enclave:
        names = set(SampleImage.__dataclass_fields__)
        fields = {name: options.pop(name) for name in list(options) if name in names}
        chosen: dict[str, Any] = {"edl": SAMPLE / "sample.edl", "types": {"handle_t": 4}} | options
        enclave = load(image(**fields), device=device(), **chosen)
        loaded.append(enclave)
        return enclave

    yield load_sample
    for enclave in loaded:
        enclave.close()
