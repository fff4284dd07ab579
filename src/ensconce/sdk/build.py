# SPDX-License-Identifier: Apache-2.0
"""Build an enclave's unsigned image from C and C++ sources and an EDL file."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ensconce.edl import require_public_ecall
from ensconce.edl.files import load_file
from ensconce.errors import ConfigError, ToolchainError
from ensconce.sdk.bridges import trusted_files
from ensconce.sdk.edger8r import write
from ensconce.sdk.fences import check_mitigation
from ensconce.sdk.illegal import check_image
from ensconce.sdk.toolchain import USER_FLAGS, CompileFlags, Mitigation, Toolchain
from ensconce.sdk.toolchain_archives import INCLUDE, trusted_archives
from ensconce.sdk.toolchain_cxx import CXX_SUFFIXES, for_c, for_cxx

__all__ = ["build"]

_UNDEFINED = re.compile(r"undefined symbol: (.+)")


def build(
    sources: Iterable[Path | str],
    edl: Path | str,
    output: Path | str,
    *,
    include: Sequence[Path | str] = (),
    defines: Sequence[str] = (),
    options: Sequence[str] = (),
    search_paths: Sequence[Path | str] = (),
    toolchain: Toolchain | None = None,
    mitigation: Mitigation = Mitigation.NONE,
) -> Path:
    """Compile, link and check an enclave; return `output`, ready for the signer.

    `sources` are C, C++ or assembly files and need no build files: the edge routines are made
    from `edl`, whose imports are looked up in `search_paths` and among our own. `options` go to
    the compiler, such as `-std=c++20`. The same sources give the same bytes.
    `mitigation` is against load value injection.
    Raises FormatError for the EDL, ToolchainError with the compiler's output, and FormatError
    for an image that an enclave cannot be (`ensconce.sdk.illegal`) or that lacks the mitigation.
    """
    toolchain = (Toolchain.find() if toolchain is None else toolchain).mitigated(mitigation)
    edl, output = Path(edl), Path(output)
    files = [Path(source) for source in sources]
    for file in (edl, *files):
        if not file.is_file():
            raise ConfigError(f"There is no file {file} to build an enclave from")
    with toolchain.work_folder() as folder:
        bridges = _write_bridges(edl, search_paths, folder)
        flags = CompileFlags(
            include=(folder, *map(Path, include), *_folders(files), INCLUDE),
            defines=tuple(defines),
            extra=(*USER_FLAGS, *options),
        )
        objects = []
        for number, source in enumerate((*bridges, *files)):
            objects.append(folder / f"{number}.o")
            is_cxx = source.suffix in CXX_SUFFIXES
            how = for_cxx(toolchain, flags) if is_cxx else for_c(toolchain, flags)
            toolchain.compile(source, objects[-1], how)
        image = folder / output.name
        _link(toolchain, objects, image)
        content = image.read_bytes()
        check_image(content, str(output))
        check_mitigation(content, str(output), mitigation)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(content)
    return output


def _link(toolchain: Toolchain, objects: Sequence[Path], image: Path) -> None:
    """Link with the libraries at hand first, then with those that have what was lacking."""
    archives = trusted_archives(toolchain, lacking=())
    while True:
        try:
            return toolchain.link(objects, archives, image)
        except ToolchainError as error:
            more = trusted_archives(toolchain, lacking=_UNDEFINED.findall(error.output))
            if more == archives:
                raise
            archives = more


def _folders(files: Iterable[Path]) -> list[Path]:
    """Return the folders of `files`, each once, in order."""
    return list(dict.fromkeys(file.resolve().parent for file in files))


def _write_bridges(edl: Path, search_paths: Sequence[Path | str], folder: Path) -> list[Path]:
    """Write the trusted edge routines to `folder`; return the files to compile."""
    interface = load_file(edl, search_paths)
    require_public_ecall(interface)
    write({str(folder / name): text for name, text in trusted_files(interface).items()})
    return sorted(folder.glob("*_t.c"))
