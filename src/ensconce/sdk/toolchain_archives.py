# SPDX-License-Identifier: Apache-2.0
"""The trusted libraries: what each is made of, built once and kept."""

import logging
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ensconce.sdk.toolchain import (
    RUNTIME_FLAGS,
    CompileFlags,
    Mitigation,
    Toolchain,
    write_archive,
)
from ensconce.sdk.toolchain_crypto import crypto_objects
from ensconce.sdk.toolchain_cxx import cxx_objects

__all__ = ["INCLUDE", "TRUSTED", "trusted_archives"]

_log = logging.getLogger(__name__)

TRUSTED = Path(__file__).parent / "trusted"
INCLUDE = TRUSTED / "include"

# musl's folders that make no sense without an operating system.
_NO_FOLDERS = frozenset(
    {
        "aio",
        "crypt",
        "ipc",
        "ldso",
        "mq",
    }
)

# musl's folders and files that most programs need some of; the rest is built when a link asks.
_COMMON_FOLDERS = frozenset(
    {
        "ctype",
        "env",
        "errno",
        "exit",
        "internal",
        "locale",
        "malloc",
        "mman",
        "multibyte",
        "prng",
        "setjmp",
        "stdio",
        "stdlib",
        "string",
    }
)
_COMMON_FILES = frozenset(
    {
        "linux/getrandom",
        "math/__fpclassifyl",
        "math/__signbitl",
        "math/copysignl",
        "math/fmodl",
        "math/frexpl",
        "math/scalbn",
        "math/scalbnl",
        "thread/__lock",
        "thread/__syscall_cp",
        "thread/__wait",
        "thread/default_attr",
        "thread/vmlock",
        "unistd/close",
        "unistd/isatty",
        "unistd/lseek",
        "unistd/read",
        "unistd/write",
    }
)

# Files whose job our own glue does, that need another process or a signal, or that hold a system
# call in assembly.
_NO_FILES = frozenset(
    {
        "env/__init_tls.c",
        "env/__libc_start_main.c",
        "env/__reset_tls.c",
        "env/__stack_chk_fail.c",
        "exit/_Exit.c",
        "exit/abort.c",
        "linux/clone.c",
        "process/_Fork.c",
        "process/fork.c",
        "process/x86_64/vfork.s",
        "setjmp/x86_64/longjmp.s",
        "signal/x86_64/restore.s",
        "thread/__tls_get_addr.c",
        "thread/pthread_cancel.c",
        "thread/pthread_create.c",
        "thread/x86_64/__set_thread_area.s",
        "thread/x86_64/__unmapself.s",
        "thread/x86_64/clone.s",
        "thread/x86_64/syscall_cp.s",
        "time/clock_gettime.c",
        "time/time.c",
        "time/timer_create.c",
    }
)

_MUSL_FLAGS = (
    *RUNTIME_FLAGS,
    "-std=c99",
    "-nostdinc",
    "-ffreestanding",
    "-fexcess-precision=standard",
    "-frounding-math",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-w",
)

# What mitigated code of other compilers jumps to.
_THUNKS = "thunks.S"

_OUR_FLAGS = (*RUNTIME_FLAGS, "-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter")


@dataclass(frozen=True, slots=True)
class _Archive:
    """A library: how to make its objects, and the folder of ours that it is made of."""

    name: str
    objects: Callable[[Toolchain, Path], list[tuple[str, bytes]]]
    folder: str | None = None
    # On demand, when it may have one of the symbols that a link lacks; None: always.
    may_have: Callable[[str], bool] | None = None
    modules: tuple[str, ...] = ()  # that say how it is made, beside this one

    def ingredients(self) -> Iterator[bytes]:
        """Yield all that the library depends on, beyond the toolchain."""
        yield _recipe(*self.modules)
        for path in _files(self.folder) if self.folder else ():
            yield str(path.relative_to(TRUSTED)).encode()
            yield path.read_bytes()


_INCLUDED = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def _files(folder: str) -> list[Path]:
    """Return a folder's files and those of our headers that they include, each once, in order."""
    waiting = sorted(path for path in (TRUSTED / folder).rglob("*") if path.is_file())
    found = dict.fromkeys(waiting)
    while waiting:
        file = waiting.pop()
        for name in _INCLUDED.findall(file.read_text()):
            for place in (file.parent, TRUSTED / "trts", INCLUDE):
                header = place / name
                if header.is_file() and header not in found:
                    found[header] = None
                    waiting.append(header)
    return sorted(found)


@cache
def _recipe(*modules: str) -> bytes:
    """Return how things are made, in full: the sources of this module, the driver and others."""
    here = Path(__file__)
    files = (here, *map(here.with_name, ("toolchain.py", *modules)))
    return b"".join(path.read_bytes() for path in files)


def musl_sources(musl: Path) -> list[Path]:
    """Return the files of musl that go into the libc, one per object, in a fixed order."""
    generic: dict[str, Path] = {}
    specific: dict[str, Path] = {}
    for path in sorted((musl / "src").glob("*/**/*")):
        relative = path.relative_to(musl / "src")
        folder, *inner = relative.parts[:-1]
        if path.suffix not in {".c", ".s", ".S"} or folder in _NO_FOLDERS:
            continue
        if str(relative) in _NO_FILES or "oldmalloc" in inner:
            continue
        if inner == ["x86_64"]:
            specific[f"{folder}/{path.stem}"] = path
        elif not inner or inner == ["mallocng"]:
            generic["/".join((folder, *inner, path.stem))] = path
    kept = {name: path for name, path in generic.items() if name not in specific}
    return [*kept.values(), *specific.values()]


def _musl_include(toolchain: Toolchain) -> tuple[Path, ...]:
    musl = toolchain.library / "libc" / "musl"
    architecture, generic, *others = toolchain.libc_headers()
    internal = (musl / "src" / "include", musl / "src" / "internal")
    return (TRUSTED / "tstdc" / "override", architecture, generic, *internal, *others)


def _is_common(source: Path) -> bool:
    """Say whether a file, relative to musl's sources, is among those that most programs need."""
    folder = source.parts[0]
    return folder in _COMMON_FOLDERS or f"{folder}/{source.stem}" in _COMMON_FILES


def _musl(*, common: bool) -> Callable[[Toolchain, Path], list[tuple[str, bytes]]]:
    """Compile half of musl with every system call a call of ours."""

    def objects(toolchain: Toolchain, folder: Path) -> list[tuple[str, bytes]]:
        crash = ("-include", str(TRUSTED / "tstdc" / "override" / "crash.h"))
        flags = CompileFlags(
            include=_musl_include(toolchain),
            defines=("_XOPEN_SOURCE=700",),
            extra=(*_MUSL_FLAGS, *crash),
        )
        musl = toolchain.library / "libc" / "musl"
        chosen = [
            source
            for source in musl_sources(musl)
            if _is_common(source.relative_to(musl / "src")) == common
        ]
        # The wheel's musl leaves these two to the compiler's runtime.
        zig = ("memcpy", "memmove") if common else ()
        return [
            *toolchain.compile_group(chosen, flags, folder),
            *(_from_compiler_runtime(toolchain, f"compiler_rt/{name}", folder) for name in zig),
        ]

    return objects


def _glue(*, pthread: bool) -> Callable[[Toolchain, Path], list[tuple[str, bytes]]]:
    """Compile what musl stands on, or pthread; it knows musl's internals and the runtime's."""

    def objects(toolchain: Toolchain, folder: Path) -> list[tuple[str, bytes]]:
        own = (toolchain.library / "include", INCLUDE, TRUSTED / "trts")
        flags = CompileFlags(
            include=(*_musl_include(toolchain), *own),
            defines=("_GNU_SOURCE",),
            extra=(*_MUSL_FLAGS, "-std=c11"),
        )
        sources = [path for path in _ours("tstdc") if (path.name == "pthread.c") == pthread]
        return toolchain.compile_group(sources, flags, folder)

    return objects


def _ours(folder: str) -> list[Path]:
    return sorted(path for path in (TRUSTED / folder).iterdir() if path.suffix in {".c", ".S"})


def _plain(name: str) -> Callable[[Toolchain, Path], list[tuple[str, bytes]]]:
    """Compile a folder of ours on top of the libc."""

    def objects(toolchain: Toolchain, folder: Path) -> list[tuple[str, bytes]]:
        flags = CompileFlags(include=(TRUSTED / name, INCLUDE, TRUSTED / "trts"), extra=_OUR_FLAGS)
        result = []
        for source in _ours(name):
            if source.name == _THUNKS and toolchain.mitigation is Mitigation.NONE:
                continue
            output = folder / f"{source.name}.o"
            toolchain.compile(source, output, flags)
            result.append((source.name, output.read_bytes()))
        return result

    return objects


def _crypto(toolchain: Toolchain, folder: Path) -> list[tuple[str, bytes]]:
    """Compile our functions over AWS-LC, with as much of it as they need."""
    own = TRUSTED / "tcrypto"
    headers = (own, INCLUDE, TRUSTED / "trts")
    objects = crypto_objects(toolchain, folder, own, headers, RUNTIME_FLAGS)
    roots = (*_crypto_functions(), "tee_crypto_start")
    c_code = [(name, content) for name, content in objects if name.endswith(".c")]
    # Assembly stays apart: each file is one section, which a link takes or leaves.
    assembly = [(name, content) for name, content in objects if not name.endswith(".c")]
    return [("tcrypto.o", toolchain.combine(c_code, roots, folder)), *assembly]


def _cxx(toolchain: Toolchain, folder: Path) -> list[tuple[str, bytes]]:
    """Compile the C++ library with its exceptions."""
    return cxx_objects(toolchain, folder, RUNTIME_FLAGS)


def _compiler_runtime(toolchain: Toolchain, folder: Path) -> list[tuple[str, bytes]]:
    """Compile the functions that compilers call for what the processor cannot."""
    return [_from_compiler_runtime(toolchain, "compiler_rt", folder)]


def _from_compiler_runtime(toolchain: Toolchain, name: str, folder: Path) -> tuple[str, bytes]:
    output = folder / "zig.o"
    toolchain.compile_zig(toolchain.library / f"{name}.zig", output)
    return f"{Path(name).name}.zig", output.read_bytes()


@cache
def _crypto_functions() -> frozenset[str]:
    header = (INCLUDE / "sgx_tcrypto.h").read_text()
    return frozenset(re.findall(r"\b(sgx_\w+)\(", header))


def _is_crypto(symbol: str) -> bool:
    return symbol in _crypto_functions()


def _is_cxx(symbol: str) -> bool:
    """Say whether a symbol, as the linker shows it, may be the C++ library's."""
    return not symbol.isidentifier() or symbol.startswith(("__cxa_", "__gxx_", "_Unwind_"))


def _is_c(symbol: str) -> bool:
    return not (_is_crypto(symbol) or _is_cxx(symbol))


_CRYPTO_MODULES = ("toolchain_crypto.py", "instruction.py", "loads.py")

# The runtime first: it is linked whole.
_ARCHIVES = (
    _Archive("libtee_trts.a", _plain("trts"), "trts"),
    _Archive("libtee_tservice.a", _plain("tservice"), "tservice"),
    _Archive("libtee_tcrypto.a", _crypto, "tcrypto", _is_crypto, _CRYPTO_MODULES),
    _Archive("libtee_tcxx.a", _cxx, "libcxx", _is_cxx, ("toolchain_cxx.py",)),
    _Archive("libtee_tstdc.a", _glue(pthread=False), "tstdc"),
    _Archive("libtee_pthread.a", _glue(pthread=True), "tstdc", _is_c),
    _Archive("libtee_musl.a", _musl(common=True), "tstdc/override"),
    _Archive("libtee_musl_more.a", _musl(common=False), "tstdc/override", _is_c),
    _Archive("libtee_rt.a", _compiler_runtime, None, _is_c),
)


def trusted_archives(
    toolchain: Toolchain,
    lacking: Collection[str] | None = None,
    *,
    mitigation: Mitigation | None = None,
) -> list[Path]:
    """Return the libraries an enclave is linked with, building those that are not in the cache.

    When `lacking` is given, those that not every program needs are built only if they may have
    one of these symbols; what is in the cache is returned anyway.
    `mitigation` chooses another set than the toolchain's own.
    """
    if mitigation is not None:
        toolchain = toolchain.mitigated(mitigation)
    paths = []
    for archive in _ARCHIVES:
        path = toolchain.cached(archive.name, archive.ingredients())
        if not path.exists():
            may_have = archive.may_have
            if lacking is not None and may_have is not None and not any(map(may_have, lacking)):
                continue
            _log.info("building %s, once on this machine", archive.name)
            with toolchain.work_folder() as folder:
                write_archive(toolchain, archive.objects(toolchain, folder), path, folder)
        paths.append(path)
    return paths
