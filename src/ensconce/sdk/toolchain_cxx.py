# SPDX-License-Identifier: Apache-2.0
"""The C and C++ headers of an enclave, and the C++ library: LLVM's, as the wheel has it.

The headers are the wheel's, put together once into two folders that any compiler can be told to
look in: `tlibc` for C, and `libcxx` for C++. The wheel's C++ headers expect their settings on the
command line; here they come from `__config_site`, as LLVM's build does it, so that g++ can read
them as well.
"""

import re
import shutil
from dataclasses import replace
from pathlib import Path

from ensconce.errors import ToolchainError
from ensconce.sdk.toolchain import CompileFlags, Mitigation, Toolchain

__all__ = ["CXX_SUFFIXES", "cxx_headers", "cxx_objects", "for_c", "for_cxx"]

CXX_SUFFIXES = frozenset({".C", ".c++", ".cc", ".cpp", ".cxx"})

_STANDARD = "-std=gnu++17"  # for sources that say nothing

_TRUSTED = Path(__file__).parent / "trusted"
_OVERLAY = _TRUSTED / "libcxx"
# What this development model has in headers of C beside the standard's functions: tee_math.h and
# its like belong to math.h and its like.
_MORE = sorted(
    _TRUSTED / "include" / f"tee_{name}.h" for name in ("complex", "fenv", "math", "string")
)

# What the wheel's headers have in the place where LLVM's include their settings.
_UNSET = "/* zig patch: instead of including __config_site, zig adds -D flags when compiling */"
_SET = "#include <__config_site>"

# libc++ insists on the compiler's own trait here; __config_site has one for compilers without.
_TRAIT = "#if __has_builtin(__remove_reference_t)"
_TRAIT_OR_OURS = "#if __has_builtin(__remove_reference_t) || defined(__remove_reference_t)"

# g++ before release 14 reads them with the help of __config_gnu.
_OLD_GNU = ('warning "Libc++ only supports GCC 14 and later"', "")

# A constant expression may leave no variable without a value before C++20.
_NO_VALUE = ("  _Rp __res;\n", "  _Rp __res = 0;\n")

# Warnings about these headers are not for those who include them.
_SYSTEM = "#pragma GCC system_header\n"

# A C++ header includes the C header of its name, and so the other way round: many Makefiles look in
# the folder of C headers first.
_NEXT = re.compile(r"^ *# *include_next <([\w.]+)>.*$", re.MULTILINE)
_HAS_NEXT = re.compile(r"__has_include_next\(<[\w.]+>\)")
_NEXT_IS_C = r"""\
#define _TEE_C_HEADER
#include "../tlibc/\1"
#undef _TEE_C_HEADER"""
_C_OR_CXX = """\
#if defined(__cplusplus) && !defined(_TEE_C_HEADER) && __has_include(<__config>)
#include "../libcxx/{name}"
#else
{text}
#endif
"""

_NO_FOLDERS = frozenset({"experimental", "ibm", "pstl", "win32"})
_NO_FILES = frozenset(
    {
        "libcxx/new.cpp",  # libc++abi has the same operators
        "libunwind/Unwind-EHABI.cpp",
        "libunwind/Unwind-seh.cpp",
        "libunwind/Unwind-sjlj.c",
        "libunwind/Unwind-wasm.c",
        "libunwind/Unwind_AIXExtras.cpp",
        "libcxxabi/cxa_noexception.cpp",
    }
)

_JUMP = re.compile(r"^( *)jmpq +\*%", re.MULTILINE)

_COMMON = ("-nostdinc", "-funwind-tables", "-fexceptions", "-w")
_CXX = ("-nostdinc++", "-std=c++23", "-fvisibility-inlines-hidden")
_DEFINED = ("NDEBUG", "_GNU_SOURCE")
_DEFINES = {
    "libcxx": ("_LIBCPP_BUILDING_LIBRARY", "LIBCXX_BUILDING_LIBCXXABI"),
    "libcxxabi": (
        "_LIBCXXABI_BUILDING_LIBRARY",
        "_LIBCPP_BUILDING_LIBRARY",
        "_LIBCXXABI_DISABLE_VISIBILITY_ANNOTATIONS",
    ),
    "libunwind": ("_LIBUNWIND_IS_NATIVE_ONLY", "_LIBUNWIND_HIDE_SYMBOLS"),
}


def _write_headers(toolchain: Toolchain, target: Path) -> None:
    """Write the C library's headers to `tlibc`, those of C++ with their settings to `libcxx`."""
    for folder in reversed(toolchain.libc_headers()):
        _put(folder, target / "tlibc")
    for header in (target / "tlibc").rglob("*.h"):
        header.write_text(_SYSTEM + header.read_text())
    for more in _MORE:
        header = target / "tlibc" / more.name.removeprefix("tee_")
        header.write_text(f"{header.read_text()}\n#include <{more.name}>\n")
        shutil.copy(more, target / "tlibc")
    cxx = target / "libcxx"
    for name in ("libcxx", "libcxxabi"):
        _put(toolchain.library / name / "include", cxx)
    _put(_OVERLAY, cxx)
    for path in (cxx / "__config", *sorted((cxx / "__configuration").iterdir())):
        if path.name != "availability.h":
            _replace(path, _UNSET, _SET)
    _replace(cxx / "__type_traits" / "remove_reference.h", _TRAIT, _TRAIT_OR_OURS)
    _replace(cxx / "__configuration" / "compiler.h", *_OLD_GNU)
    _replace(cxx / "__numeric" / "gcd_lcm.h", *_NO_VALUE)
    for header in sorted(cxx.glob("*.h")):
        if (target / "tlibc" / header.name).exists():
            _pair(header, target / "tlibc" / header.name)
    _wrap(cxx / "__mbstate_t.h")


def _pair(cxx: Path, c: Path) -> None:
    """Let a C header and the C++ one that wraps it find each other in either order of folders."""
    _wrap(cxx)
    c.write_text(_C_OR_CXX.format(name=c.name, text=c.read_text()))


def _wrap(cxx: Path) -> None:
    """Let a C++ header include the C header that it wraps by its place."""
    text = _NEXT.sub(_NEXT_IS_C, cxx.read_text())
    cxx.write_text(_HAS_NEXT.sub("1", text))


def _put(source: Path, target: Path) -> None:
    """Copy a folder of headers over another; what is there is replaced."""
    if not source.is_dir():
        raise ToolchainError(f"The toolchain lacks its folder {source}; install ziglang again")
    shutil.copytree(source, target, dirs_exist_ok=True)


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        raise ToolchainError(f"{path.name} is not the header that this release knows: {old!r}")
    path.write_text(text.replace(old, new))


def cxx_headers(toolchain: Toolchain) -> Path:
    """Return a folder with the headers in `libcxx` and `tlibc`, making it if need be."""
    ingredients = [Path(__file__).read_bytes()]
    ingredients += [more.read_bytes() for more in _MORE]
    for path in sorted(path for path in _OVERLAY.rglob("*") if path.is_file()):
        ingredients += [str(path.relative_to(_OVERLAY)).encode(), path.read_bytes()]
    return toolchain.cached_folder(
        "include", ingredients, lambda folder: _write_headers(toolchain, folder)
    )


def for_c(toolchain: Toolchain, flags: CompileFlags) -> CompileFlags:
    """Return the flags for an enclave's C sources, given those for all."""
    return replace(flags, include=(*flags.include, cxx_headers(toolchain) / "tlibc"))


def for_cxx(toolchain: Toolchain, flags: CompileFlags) -> CompileFlags:
    """Return the flags for an enclave's C++ sources, given those for all."""
    headers = cxx_headers(toolchain)
    folders = (headers / "libcxx", toolchain.library / "include", headers / "tlibc")
    return replace(
        flags,
        include=(*flags.include, *folders),
        extra=(_STANDARD, "-nostdinc", "-nostdinc++", *flags.extra),
    )


def _sources(toolchain: Toolchain, name: str) -> list[Path]:
    """Return the files of one of the three libraries, in a fixed order."""
    root = toolchain.library / name / "src"
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix in {".c", ".cpp", ".S"}
        and not _NO_FOLDERS.intersection(path.relative_to(root).parts)
        and f"{name}/{path.name}" not in _NO_FILES
    ]


def cxx_objects(
    toolchain: Toolchain, folder: Path, flags: tuple[str, ...]
) -> list[tuple[str, bytes]]:
    """Compile libc++, libc++abi and libunwind for enclaves."""
    headers = cxx_headers(toolchain)
    library = toolchain.library
    places = (
        library / "libcxx" / "src",
        library / "libcxxabi" / "include",
        library / "libunwind" / "include",
        library / "libunwind" / "src",
        headers / "libcxx",
        headers / "tlibc",
        library / "libc" / "include" / "any-linux-any",  # for the futex's constants
    )
    result = []
    for name, defines in _DEFINES.items():
        for is_cxx in (True, False):
            sources = [path for path in _sources(toolchain, name) if _is_cxx(path) == is_cxx]
            if sources:
                how = CompileFlags(
                    include=places,
                    defines=(*_DEFINED, *defines),
                    extra=(*flags, *_COMMON, *(_CXX if is_cxx else ())),
                )
                if toolchain.mitigation is not Mitigation.NONE:
                    sources = [_fenced(path, folder) for path in sources]
                result += toolchain.compile_group(sources, how, folder)
    return result


def _fenced(source: Path, folder: Path) -> Path:
    """Return an assembly file whose jumps by register are fenced, which assemblers leave alone."""
    if source.suffix != ".S":
        return source
    copy = folder / source.name
    copy.write_text(_JUMP.sub(r"\1lfence\n\g<0>", source.read_text()))
    return copy


def _is_cxx(path: Path) -> bool:
    return path.suffix == ".cpp"
