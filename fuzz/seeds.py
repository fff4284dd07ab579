# SPDX-License-Identifier: Apache-2.0
"""Write a few valid inputs for the fuzz targets to start from: `python fuzz/seeds.py FOLDER`.

Without them a fuzzer has to guess an ELF header and a SIGSTRUCT before it meets a parser's depths.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.image.building import EnclaveFile, signed

from ensconce.crypto import generate_signing_key
from ensconce.edl.files import load_file
from ensconce.edl.printer import render
from ensconce.image import open_image, write_sgxs
from ensconce.image.enclave_elf import EnclaveElf
from ensconce.image.generation import GENERATIONS
from ensconce.machine.identity import Identity

EXAMPLE = Path(__file__).parents[1] / "examples" / "01-hello-world"


def seeds() -> Iterator[tuple[str, bytes]]:
    """Yield a target's name and an input for it."""
    key = generate_signing_key()
    for generation in GENERATIONS:
        file = signed(key, file=EnclaveFile(generation=generation))
        elf = EnclaveElf(memoryview(file), "seed")
        yield "fuzz_elf_image", file
        yield "fuzz_illegal", bytes(EnclaveFile(generation=generation))
        yield "fuzz_metadata", file[elf.note_offset :]
    image, stream = open_image(file), io.BytesIO()
    write_sgxs(stream, image.size, image.ssa_frame_size, list(image.operations())[:8])
    yield "fuzz_sgxs", stream.getvalue()
    yield "fuzz_identity", bytes(Identity.generate())
    yield "fuzz_enclave_config", (EXAMPLE / "enclave.config.xml").read_bytes()
    edl = EXAMPLE / "enclave.edl"
    yield "fuzz_edl", edl.read_bytes()
    yield "fuzz_edl", render(load_file(edl)).encode()


def main(folder: Path) -> None:
    """Write the seeds, a folder a target."""
    for number, (target, content) in enumerate(seeds()):
        place = folder / target
        place.mkdir(parents=True, exist_ok=True)
        (place / f"seed-{number}").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
