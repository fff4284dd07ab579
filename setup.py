# SPDX-License-Identifier: Apache-2.0
"""Declare the native module, which the declarative metadata cannot."""

from pathlib import Path

from setuptools import Extension, setup

CORE = sorted(str(path) for path in Path("csrc").glob("*.c"))
HIDDEN = ["-fvisibility=hidden"]  # the assembly calls C functions and reads tables directly

setup(
    ext_modules=[
        Extension(
            "ensconce._core",
            sources=CORE,
            depends=sorted(str(path) for path in Path("csrc").glob("*.h")),
            define_macros=[("Py_LIMITED_API", "0x030B0000"), ("_GNU_SOURCE", "1")],
            extra_compile_args=["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", *HIDDEN],
            extra_link_args=["-Wl,-z,now"],  # no lazy binding inside a signal handler
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
