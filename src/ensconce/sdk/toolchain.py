# SPDX-License-Identifier: Apache-2.0
"""Drive the `ziglang` wheel: compile, archive and link code for enclaves.

The wheel is a whole toolchain (clang, lld, musl's and libc++'s sources) in one pip package, so an
enclave's bytes depend on the wheel's version and nothing else on the machine. What takes long, the
trusted libraries, is kept in a cache folder by the hash of all that goes into it.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from importlib import metadata, util
from pathlib import Path

from ensconce.errors import ToolchainError

__all__ = [
    "PREBUILT",
    "ZIG_VERSION",
    "CompileFlags",
    "Mitigation",
    "Toolchain",
    "cache_folder",
    "object_name",
    "read_archive",
    "write_archive",
]

_log = logging.getLogger(__name__)

# What a wheel brings along, each file in a folder named by a hash; `make package` writes it.
PREBUILT = Path(__file__).parent / "prebuilt"

# Later releases have parts of musl in Zig, with their system calls inline.
ZIG_VERSION = "0.14.1"

TARGET = "x86_64-linux-musl"

# Every processor with SGX is at least this; AVX may be missing, or masked out by XFRM.
MACHINE = "x86_64_v2"

# Flags that all C and C++ code of an enclave is compiled with, ours and the user's.
COMMON_FLAGS = (
    "-O2",
    "-g0",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-sanitize=all",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-fno-ident",
)

# The stack protector reads its value from the thread data, which an ECALL fills first thing: code
# that runs before, or that fills it, is compiled without.
RUNTIME_FLAGS = ("-fno-stack-protector",)
USER_FLAGS = ("-fstack-protector-strong",)

LINK_FLAGS = (
    "-pie",
    "-static",
    "--no-dynamic-linker",
    "-e",
    "enclave_entry",
    "--eh-frame-hdr",
    "--gc-sections",
    "-z",
    "now",
    "-z",
    "noexecstack",
    "-z",
    "relro",
    "-z",
    "separate-code",
    "-z",
    "max-page-size=4096",
    "-Bsymbolic",
    "--no-undefined",
    "--fatal-warnings",
    # A link that lacks libraries tells all that is missing.
    "--error-limit=0",
    # Not in the measurement: two builds of the same code differ in debug information only.
    "--build-id=none",
)

# All of the environment that compilers see: others, such as CPATH, would change what is built.
_PASSED_ON = ("HOME", "PATH", "TMPDIR")

# What signers, loaders and debuggers look up.
EXPORTED = ("enclave_entry", "g_global_data", "g_peak_heap_used")


class Mitigation(Enum):
    """What the code of an enclave does against load value injection (CVE-2020-0551).

    CF: returns and indirect branches go where a register says, after LFENCE. LOAD: LFENCE follows
    every load as well. The names are those of the vendor's MITIGATION-CVE-2020-0551.
    """

    NONE = "none"
    CF = "cf"
    LOAD = "load"

    def machine(self) -> str:
        """Return what code generation needs to know: which branches it may emit."""
        return "" if self is Mitigation.NONE else "+lvi_cfi"

    def compiler(self) -> tuple[str, ...]:
        """Return the compiler's arguments."""
        # Else the linker writes the accesses to thread data anew, and leaves fences out.
        return () if self is Mitigation.NONE else ("-ftls-model=local-exec",)

    def assembler(self) -> tuple[str, ...]:
        """Return the arguments that make the assembler add fences.

        The fences after loads are the assembler's alone: the code generator of this toolchain
        leaves those out that it finds harmless, and nobody could see from an image whether it did.
        """
        if self is Mitigation.NONE:
            return ()
        level = "-mlvi-cfi" if self is Mitigation.CF else "-mlvi-hardening"
        fences = ("-mllvm", "-x86-experimental-lvi-inline-asm-hardening")
        # Or C would become machine code without going through the assembler.
        return (level, *fences, "-via-file-asm")


@dataclass(frozen=True, slots=True)
class CompileFlags:
    """How one file is compiled, beyond what holds for all."""

    include: tuple[Path, ...] = ()
    defines: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Return the compiler's arguments."""
        return [
            *COMMON_FLAGS,
            *self.extra,
            *(f"-D{define}" for define in self.defines),
            *(f"-I{folder}" for folder in self.include),
        ]


def cache_folder() -> Path:
    """Return where built libraries are kept: ENSCONCE_CACHE, or in the user's cache folder."""
    if chosen := os.environ.get("ENSCONCE_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ensconce"


def object_name(name: str, taken: set[str]) -> str:
    """Return a member name for an archive that is not taken yet, and take it."""
    stem, number, result = Path(name).stem, 1, f"{Path(name).stem}.o"
    while result in taken:
        number += 1
        result = f"{stem}.{number}.o"
    taken.add(result)
    return result


class Toolchain:
    """The wheel's compiler and linker, with a cache of what they made.

    `zig` is the program, `library` the wheel's folder of sources and headers, `cache` a folder
    that may be deleted at any time, `mitigation` what all code that it makes does. Every failure
    is a `ToolchainError` with the tool's output.
    """

    def __init__(
        self, zig: Path, cache: Path | None = None, mitigation: Mitigation = Mitigation.NONE
    ) -> None:
        self.zig = zig
        self.mitigation = mitigation
        self.library = zig.parent / "lib"
        self.cache = cache_folder() if cache is None else cache

    @classmethod
    def find(cls, cache: Path | None = None) -> "Toolchain":
        """Return the installed wheel's toolchain, or say how to install it."""
        mend = f"install it with: pip install ziglang=={ZIG_VERSION} (or ensconce[sdk])"
        spec = util.find_spec("ziglang")
        if spec is None or spec.origin is None:
            raise ToolchainError(f"The toolchain, the ziglang wheel, is missing; {mend}")
        version = metadata.version("ziglang")
        if version != ZIG_VERSION:
            raise ToolchainError(f"The ziglang wheel is version {version}, not tested here; {mend}")
        return cls(Path(spec.origin).parent / "zig", cache)

    def mitigated(self, mitigation: Mitigation) -> "Toolchain":
        """Return the same toolchain, whose code has another mitigation."""
        return Toolchain(self.zig, self.cache, mitigation)

    def run(self, *arguments: str | Path, task: str, cwd: Path | None = None) -> str:
        """Run zig and return what it printed; `task` completes "could not ...".

        The compiler's own cache lives in ours.
        """
        zig_cache = str(self.cache / "zig")
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {
            "ZIG_GLOBAL_CACHE_DIR": zig_cache,
            "ZIG_LOCAL_CACHE_DIR": zig_cache,
            "LC_ALL": "C",
        }
        try:
            done = subprocess.run(  # noqa: S603 (a program of the wheel, arguments as a list)
                [str(self.zig), *map(str, arguments)],
                env=environment,
                cwd=cwd,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise ToolchainError(f"Could not {task}: {self.zig} does not start: {error}") from error
        output = done.stdout + done.stderr
        if done.returncode != 0:
            first = next((line for line in output.splitlines() if "error" in line), "no message")
            raise ToolchainError(f"Could not {task}: {first.strip()}", output=output)
        return output

    def compile(self, source: Path, output: Path, flags: CompileFlags) -> None:
        """Compile one C, C++ or assembly file of an enclave."""
        if self.mitigation is Mitigation.NONE:
            self._compile(source, output, flags, "-c")
        elif source.suffix in {".s", ".S"}:
            self._assemble(source, output, flags)
        else:
            assembly = output.with_suffix(".s")
            self._compile(source, assembly, flags, "-S")
            self._assemble(assembly, output, CompileFlags())
            assembly.unlink()

    def _compile(self, source: Path, output: Path, flags: CompileFlags, what: str) -> None:
        """Compile one file to an object (-c) or to assembly (-S)."""
        # The file's own folder may not leave a trace: a build elsewhere gives the same bytes.
        folder = source.resolve().parent
        warnings = self.run(
            "cc",
            *self.target(),
            *flags.arguments(),
            *self.mitigation.compiler(),
            f"-ffile-prefix-map={folder}=.",
            what,
            source.resolve(),
            "-o",
            output.resolve(),
            task=f"compile {source}",
        )
        if warnings.strip():
            _log.warning("source=%s %s", source, warnings.strip())

    def libc_headers(self) -> list[Path]:
        """Return the wheel's folders of C headers, the first to be looked in first."""
        libc = self.library / "libc"
        return [
            libc / "musl" / "arch" / "x86_64",
            libc / "musl" / "arch" / "generic",
            libc / "musl" / "include",
            libc / "include" / "x86_64-linux-musl",
            libc / "include" / "generic-musl",
        ]

    def _assemble(self, source: Path, output: Path, flags: CompileFlags) -> None:
        """Assemble one file with the mitigation's fences: `zig cc` would not pass them on."""
        self.run(
            "build-obj",
            *self.target(),
            "-OReleaseFast",
            "-fstrip",
            f"-femit-bin={output.resolve()}",
            "-cflags",
            *flags.arguments(),
            *self.mitigation.assembler(),
            "--",
            source.resolve(),
            task=f"assemble {source}",
        )

    def target(self) -> list[str]:
        """Return the arguments that name the machine code is made for."""
        return ["-target", TARGET, f"-mcpu={MACHINE}{self.mitigation.machine()}"]

    def compile_group(
        self, sources: Sequence[Path], flags: CompileFlags, folder: Path
    ) -> list[tuple[str, bytes]]:
        """Compile many files at once on all cores; return objects in a fixed order."""
        archive = folder / "group.a"
        self.run(
            "build-lib",
            *self.target(),
            "-static",
            "-OReleaseFast",
            "-fstrip",
            "-fno-stack-check",
            "-fno-compiler-rt",
            "-fno-ubsan-rt",
            "--name",
            "group",
            f"-femit-bin={archive}",
            "-cflags",
            *flags.arguments(),
            *self.mitigation.compiler(),
            *self.mitigation.assembler(),
            "--",
            *sources,
            task=f"compile {len(sources)} files from {sources[0].parent}",
        )
        members = list(read_archive(archive.read_bytes()))
        archive.unlink()
        return sorted(
            (Path(name).name, content) for name, content in members if not name.endswith("/")
        )

    def compile_zig(self, source: Path, output: Path) -> None:
        """Compile one Zig file without a system under it."""
        assembly = output.with_suffix(".s")
        plain = self.mitigation is Mitigation.NONE
        self.run(
            "build-obj",
            "-target",
            "x86_64-freestanding-none",
            f"-mcpu={MACHINE}{self.mitigation.machine()}",
            "-OReleaseFast",
            "-fPIC",
            "-fstrip",
            "-fno-compiler-rt",
            "-ffunction-sections",
            "-fdata-sections",
            *([f"-femit-bin={output}"] if plain else ["-fno-emit-bin", f"-femit-asm={assembly}"]),
            source,
            task=f"compile {source}",
        )
        if not plain:
            self._assemble(assembly, output, CompileFlags())
            assembly.unlink()

    def link(self, objects: Iterable[Path], archives: Iterable[Path], output: Path) -> None:
        """Link an enclave's image. The first archive is linked whole: it is the runtime."""
        runtime, *others = archives
        self.run(
            "ld.lld",
            *LINK_FLAGS,
            *(f"--export-dynamic-symbol={name}" for name in EXPORTED),
            "-o",
            output,
            *objects,
            "--whole-archive",
            runtime,
            "--no-whole-archive",
            "--start-group",
            *others,
            "--end-group",
            task=f"link {output.name}",
        )

    def combine(
        self, objects: Iterable[tuple[str, bytes]], roots: Iterable[str], folder: Path
    ) -> bytes:
        """Link objects to one that has what `roots` need, so that no linker must sift the rest."""
        paths = []
        for number, (_, content) in enumerate(objects):
            paths.append(folder / f"part-{number}.o")
            paths[-1].write_bytes(content)
        whole = folder / "whole.o"
        keep = [word for root in sorted(roots) for word in ("-u", root)]
        flags = ["-r", "--gc-sections", *keep, "-o", str(whole)]
        self.run("ld.lld", *flags, *paths, task="combine objects")
        return whole.read_bytes()

    def cached(self, name: str, ingredients: Iterable[bytes]) -> Path:
        """Return the path for a file made of `ingredients`: the package's, or the cache's.

        In the cache it is there or not.
        """
        mitigation, digest = self.mitigation, hashlib.sha256(ZIG_VERSION.encode())
        for part in (
            *self.target(),
            *COMMON_FLAGS,
            *mitigation.compiler(),
            *mitigation.assembler(),
        ):
            digest.update(part.encode() + b"\0")
        for ingredient in ingredients:
            digest.update(hashlib.sha256(ingredient).digest())
        place = Path(digest.hexdigest()[:32]) / name
        prebuilt = PREBUILT / place
        return prebuilt if prebuilt.exists() else self.cache / "sdk" / place

    def cached_folder(
        self, name: str, ingredients: Iterable[bytes], make: Callable[[Path], None]
    ) -> Path:
        """Return a folder in the cache for what `ingredients` give; `make` fills it if need be."""
        target = self.cached(name, ingredients)
        if not target.is_dir():
            with self.work_folder() as folder:
                made = folder / name
                made.mkdir()
                make(made)
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    made.rename(target)
                except OSError:
                    if not target.is_dir():  # else somebody else was faster
                        raise
        return target

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """Give a folder in the cache's file system that is gone afterwards."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="work-", dir=self.cache))
        except OSError as error:
            raise ToolchainError(
                f"The cache folder {self.cache} cannot be written ({error.strerror}); "
                "set ENSCONCE_CACHE to one that can"
            ) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


_MAGIC = b"!<arch>\n"


def read_archive(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each object in an archive that the toolchain just made."""
    offset, long_names = len(_MAGIC), b""
    while offset + 60 <= len(data):
        header = data[offset : offset + 60]
        name, size = header[:16].decode().rstrip(), int(header[48:58])
        content = data[offset + 60 : offset + 60 + size]
        offset += 60 + size + size % 2
        if name == "//":
            long_names = content
        elif name != "/":
            if name.startswith("/"):
                name = long_names[int(name[1:]) :].split(b"/\n")[0].decode()
            yield name.removesuffix("/"), content


def write_archive(
    toolchain: Toolchain, objects: Sequence[tuple[str, bytes]], output: Path, folder: Path
) -> None:
    """Write objects to an archive: same objects, same bytes, whenever and wherever."""
    taken: set[str] = set()
    names = []
    for name, content in objects:
        names.append(object_name(name, taken))
        (folder / names[-1]).write_bytes(content)
    fresh = folder / "fresh.a"
    toolchain.run("ar", "qcsD", fresh, *names, task=f"archive {output.name}", cwd=folder)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Another process may have made it meanwhile, with the same bytes.
    fresh.replace(output)
