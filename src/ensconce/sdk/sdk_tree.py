# SPDX-License-Identifier: Apache-2.0
"""The folder that Makefiles of this development model call SGX_SDK.

Its layout and names are those that such Makefiles use: `bin/x64` with the two tools, `include`
with `tlibc` and `libcxx`, `lib64` with the trusted and the host libraries, `environment` and
`buildenv.mk`. The names that end in `_sim` are the same libraries: the emulated processor runs what
hardware runs.
"""

import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ensconce.edl.files import LIBRARY
from ensconce.sdk.host_libraries import host_includes, host_libraries
from ensconce.sdk.toolchain import Mitigation, Toolchain, read_archive, write_archive
from ensconce.sdk.toolchain_archives import trusted_archives
from ensconce.sdk.toolchain_cxx import cxx_headers

__all__ = ["sdk_tree"]

_TEMPLATES = Path(__file__).parent / "tree"

# The libraries that an enclave links, and the archives that each is made of.
_TRUSTED: Mapping[str, tuple[str, ...]] = {
    "libsgx_trts": ("libtee_trts.a",),
    "libsgx_tservice": ("libtee_tservice.a",),
    "libsgx_tcrypto": ("libtee_tcrypto.a",),
    "libsgx_tcxx": ("libtee_tcxx.a",),
    "libsgx_pthread": ("libtee_pthread.a",),
    # Its functions are not there yet; Makefiles name it without calling one.
    "libsgx_tkey_exchange": (),
    "libsgx_tstdc": ("libtee_tstdc.a", "libtee_musl.a", "libtee_musl_more.a", "libtee_rt.a"),
}
_ALSO_SIM = ("libsgx_trts", "libsgx_tservice")

# Where Makefiles look for the trusted libraries with mitigations against load value injection.
_FOLDERS = {
    Mitigation.NONE: "",
    Mitigation.CF: "cve_2020_0551_cf",
    Mitigation.LOAD: "cve_2020_0551_load",
}

_TOOLS = {
    "sgx_edger8r": "from ensconce.cli.sdk import main_edger8r; main_edger8r()",
    "sgx_sign": "from ensconce.cli.sign import main_sgx_sign; main_sgx_sign()",
}


def sdk_tree(toolchain: Toolchain | None = None, mitigations: Collection[Mitigation] = ()) -> Path:
    """Return the SDK's folder, building what is not in the cache.

    Of the trusted libraries it has a set for each of `mitigations` as well.
    The first time takes minutes; later ones take no time. Raises ToolchainError.
    """
    toolchain = Toolchain.find() if toolchain is None else toolchain
    levels = [each for each in Mitigation if each in (Mitigation.NONE, *mitigations)]
    sets = {each: trusted_archives(toolchain, mitigation=each) for each in levels}
    sources = {"host": host_libraries(toolchain), "include": cxx_headers(toolchain)}

    def make(folder: Path) -> None:
        _write_headers(sources["include"], folder / "include")
        shutil.copytree(sources["host"], folder / "lib64", symlinks=True)
        for level, paths in sets.items():
            archives = {path.name: path for path in paths}
            for name, parts in _TRUSTED.items():
                members = [archives[part] for part in parts]
                _write_library(toolchain, name, members, folder / "lib64" / _FOLDERS[level])
        _write_tools(folder / "bin" / "x64")
        for template in sorted(_TEMPLATES.iterdir()):
            text = template.read_text().replace("@SGX_SDK@", str(target))
            (folder / template.name).write_text(text)

    ingredients = [
        *_ingredients(),
        *(str(path).encode() for paths in sets.values() for path in paths),
    ]
    ingredients += [str(path).encode() for path in sources.values()]
    target = toolchain.cached("sgxsdk", ingredients)
    return toolchain.cached_folder("sgxsdk", ingredients, make)


def _ingredients() -> Iterator[bytes]:
    """Yield all that the folder depends on, beyond what is in the cache under its own hash."""
    yield sys.executable.encode()
    yield Path(__file__).read_bytes()
    for folder in (*host_includes(), LIBRARY, _TEMPLATES):
        for path in sorted(folder.iterdir()):
            if path.is_file():
                yield path.name.encode()
                yield path.read_bytes()


def _write_headers(libraries: Path, folder: Path) -> None:
    """Write the headers of both sides, and the EDL files that others import."""
    shutil.copytree(libraries, folder)
    for source in (*host_includes(), LIBRARY):
        shutil.copytree(source, folder, dirs_exist_ok=True)


def _write_library(toolchain: Toolchain, name: str, archives: list[Path], folder: Path) -> None:
    """Write one library of one or several archives, with its other name."""
    objects = [member for path in archives for member in read_archive(path.read_bytes())]
    with toolchain.work_folder() as work:
        write_archive(toolchain, objects, folder / f"{name}.a", work)
    if name in _ALSO_SIM:
        (folder / f"{name}_sim.a").symlink_to(f"{name}.a")


def _write_tools(folder: Path) -> None:
    """Write the tools' commands, which run in the Python that made them."""
    folder.mkdir(parents=True)
    for name, code in _TOOLS.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{code}' \"$@\"\n")
        path.chmod(0o755)
