# SPDX-License-Identifier: Apache-2.0
"""Build the host's libraries, which C and C++ programs link under the vendor's names.

The compiler is the toolchain's, for an old glibc, so that one build runs on every distribution
and no other compiler is needed. The emulated processor in them is made of the very files that the
Python module is made of. Results are kept in the toolchain's cache by the hash of what they are
made of.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensconce.errors import ToolchainError
from ensconce.sdk.toolchain import Toolchain
from ensconce.sdk.toolchain_archives import INCLUDE

__all__ = ["HOST_INCLUDE", "host_includes", "host_libraries"]

_log = logging.getLogger(__name__)

_HOST = Path(__file__).parent / "host"
_CORE = _HOST / "core"
HOST_INCLUDE = _HOST / "include"

# glibc 2.31 is that of Ubuntu 20.04 and Debian 11, the oldest that the vendor's SDK still names.
_TARGET = ("-target", "x86_64-linux-gnu.2.31", "-mcpu=x86_64_v2")
_FLAGS = (
    "-std=gnu11",
    "-O2",
    "-g0",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-fno-sanitize=all",
    "-fno-strict-aliasing",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-D_GNU_SOURCE",
    "-Wl,-z,now",  # no lazy binding inside a signal handler
    "-Wl,-z,relro",
    "-Wl,--strip-debug",  # of the toolchain's own parts, which names folders of this machine
    "-Wl,-z,nodelete",  # what dlclose took away would still get signals and the ends of threads
)


@dataclass(frozen=True, slots=True)
class _Library:
    """A shared library: the name that programs link, its soname, its sources."""

    name: str
    soname: str
    sources: Sequence[str]
    core: bool = False


_QUOTING = ("quoting.c", "service.c")
_LIBRARIES = (
    _Library(
        "libsgx_urts",
        "libsgx_urts.so.2",
        ("load.c", "ocalls.c", "service.c", "threads.c", "urts.c"),
        core=True,
    ),
    _Library("libsgx_epid", "libsgx_epid.so.1", ("epid.c",)),
    _Library("libsgx_launch", "libsgx_launch.so.1", ("launch.c",)),
    _Library("libsgx_quote_ex", "libsgx_quote_ex.so.1", ("quote_ex.c", *_QUOTING)),
    _Library(
        "libsgx_uae_service",
        "libsgx_uae_service.so",
        ("epid.c", "launch.c", "quote_ex.c", *_QUOTING),
    ),
    _Library("libsgx_dcap_ql", "libsgx_dcap_ql.so.1", ("dcap_ql.c", *_QUOTING)),
    _Library("libdcap_quoteprov", "libdcap_quoteprov.so.1", ("quoteprov.c",)),
    _Library("libsgx_capable", "libsgx_capable.so", ("capable.c",)),
    _Library("libtee_libc", "libtee_libc.so.1", ("tee_libc.c",)),
)
_NOT_CORE = "py_"  # what is for Python only


def host_includes() -> list[Path]:
    """Return the folders of headers that host programs are compiled with."""
    return [HOST_INCLUDE, INCLUDE]


def host_libraries(toolchain: Toolchain | None = None, python: str = sys.executable) -> Path:
    """Return a folder that has every host library, under each of its names; build it if needed.

    `python` is the interpreter that starts a platform service for a host program that finds none;
    without one, the command `ensconce` does. Raises ToolchainError.
    """
    toolchain = Toolchain.find() if toolchain is None else toolchain

    def make(folder: Path) -> None:
        _log.info("building the host libraries, once on this machine")
        for library in _LIBRARIES:
            _build(toolchain, library, folder, python)

    return toolchain.cached_folder("lib64", _ingredients(python), make)


def _build(toolchain: Toolchain, library: _Library, folder: Path, python: str) -> None:
    """Build a library and give it its other names."""
    files = [_HOST / name for name in library.sources]
    files += _core_files() if library.core else []
    toolchain.run(
        "cc",
        *_TARGET,
        *_FLAGS,
        *(f"-I{place}" for place in (_HOST, *host_includes())),
        f'-DENSCONCE_PYTHON="{python}"',
        f"-Wl,-soname,{library.soname}",
        *files,
        "-o",
        folder / library.soname,
        task=f"build {library.soname}",
    )
    for name in (f"{library.name}.so", f"{library.name}_sim.so"):
        if name != library.soname:
            (folder / name).symlink_to(library.soname)


def _core_files() -> list[Path]:
    """Return the sources of the emulated processor."""
    files = [
        path
        for path in sorted(_CORE.glob("*.c"))
        if not path.name.startswith(_NOT_CORE) and path.name not in ("module.c", "measure.c")
    ]
    if not files:
        raise ToolchainError(
            f"The emulated processor's sources are not in {_CORE}: this installation of ensconce "
            "can't build host libraries; install it again"
        )
    return files


def _ingredients(python: str) -> list[bytes]:
    """Return all that the libraries depend on."""
    parts = [" ".join((*_TARGET, *_FLAGS, python)).encode()]
    parts += [repr(library).encode() for library in _LIBRARIES]
    files = [*_HOST.glob("*.[ch]"), *HOST_INCLUDE.glob("*.h"), *INCLUDE.glob("*.h")]
    files += [*_core_files(), *_CORE.glob("*.h")]
    for path in sorted(files):
        parts += [path.name.encode(), path.read_bytes()]
    return parts
