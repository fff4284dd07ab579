# SPDX-License-Identifier: Apache-2.0
"""What an enclave's bytes are: hello world and the smallest one, by library, largest parts last.

The peer is the user's own C as gcc compiles it for the host.
"""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ensconce.edl import load
from ensconce.sdk.bridges import trusted_files
from ensconce.sdk.build import build
from ensconce.sdk.edger8r import read_source
from ensconce.sdk.toolchain import LINK_FLAGS, Toolchain
from ensconce.sdk.toolchain_archives import INCLUDE

HERE = Path(__file__).parent
HELLO = HERE.parent / "examples" / "01-hello-world" / "enclave.c"
LARGEST = 5

# address, load address, size, alignment, file or archive(member):(section)
_PLACED = re.compile(r"\s*[0-9a-f]+\s+[0-9a-f]+\s+([0-9a-f]+)\s+\d+ {9}(\S+):\((\.[^)]+)\)$")
_MEMBER = re.compile(r"(?:.*/)?lib(?:tee_)?(\w+)\.a\((.+)\)$")
_NO_BYTES = (".bss", ".tbss", ".comment", ".symtab", ".strtab", ".shstrtab", ".debug")


class MappingToolchain(Toolchain):
    """Keeps the linker's map of the last image."""

    map = ""

    def link(self, objects: Iterable[Path], archives: Iterable[Path], output: Path) -> None:
        """Link, and once more with a map."""
        objects, archives = list(objects), list(archives)
        super().link(objects, archives, output)
        runtime, *others = archives
        self.map = self.run(
            "ld.lld",
            *LINK_FLAGS,
            "--Map=-",
            "-o",
            output.with_suffix(".mapped"),
            *objects,
            "--whole-archive",
            runtime,
            "--no-whole-archive",
            "--start-group",
            *others,
            "--end-group",
            task="map the image",
        )


def parts(text: str) -> tuple[Counter[str], Counter[str]]:
    """Return the bytes by library and by part of a library, from a linker's map."""
    libraries: Counter[str] = Counter()
    objects: Counter[str] = Counter()
    for line in text.splitlines():
        placed = _PLACED.match(line)
        if placed is None or placed[3].startswith(_NO_BYTES):
            continue
        member = _MEMBER.match(placed[2])
        library = member[1] if member else "the user's and bridges"
        if placed[3] == ".note.sgxmeta":
            library, member = "room for the signature", None
        libraries[library] += int(placed[1], 16)
        if member:
            section = placed[3].split(".", 2)  # named for its function, or file of assembly
            objects[f"{library}: {section[-1]} ({member[2]})"] += int(placed[1], 16)
    return libraries, objects


def by_gcc(source: Path, folder: Path) -> int:
    """Return the bytes of the user's C, compiled for the host."""
    output = folder / "host.o"
    places = [f"-I{folder}", f"-I{INCLUDE}"]
    command = ["gcc", "-O2", "-fPIC", "-w", *places, "-c", str(source), "-o", str(output)]
    subprocess.run(command, check=True)  # noqa: S603 # the project's own sources
    done = subprocess.run(  # noqa: S603 # just built
        ["size", output],  # noqa: S607
        check=True,
        capture_output=True,
        text=True,
    )
    return sum(map(int, done.stdout.splitlines()[1].split()[:2]))


def show(name: str, source: Path, folder: Path) -> None:
    """Build an enclave and print its size and parts."""
    toolchain = MappingToolchain.find()
    edl = source.with_suffix(".edl")
    image = build([source], edl, folder / f"{name}.so", toolchain=toolchain)
    libraries, objects = parts(toolchain.map)
    for header, text in trusted_files(
        load(edl.name, read_source, [str(edl.parent), str(INCLUDE)]), header_only=True
    ).items():
        (folder / header).write_text(text)
    total, size = sum(libraries.values()), image.stat().st_size
    peer = by_gcc(source, folder)
    print(f"{name}: {size:,} bytes, {total:,} of them loaded; the same C by gcc alone {peer:,}")
    for library, taken in libraries.most_common():
        print(f"  {library:28} {taken:9,} bytes {100 * taken / total:5.1f} %")
    for part, taken in objects.most_common(LARGEST):
        print(f"    {part:40} {taken:9,} bytes")


def main() -> None:
    """Print the two enclaves."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        show("smallest", HERE / "smallest" / "smallest.c", folder)
        show("hello-world", HELLO, folder)


if __name__ == "__main__":
    main()
