# SPDX-License-Identifier: Apache-2.0
"""Declare the native module and the messages of gRPC, which the declarative metadata cannot."""

import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py
from setuptools.errors import ExecError

CORE = sorted(str(path) for path in Path("csrc").glob("*.c"))
HIDDEN = ["-fvisibility=hidden"]  # the assembly calls C functions and reads tables directly
SOURCE = Path("src")


class BuildMessages(build_py):
    """Makes the modules of the .proto files beside these, then builds as ever."""

    def run(self) -> None:
        """Run protoc, which comes as a wheel with this build's requirements."""
        from grpc_tools import protoc

        protos = [str(path) for path in SOURCE.rglob("*.proto")]
        options = [f"-I{SOURCE}", f"--python_out={SOURCE}", f"--pyi_out={SOURCE}"]
        if protoc.main(["protoc", *options, *protos]):
            raise ExecError("protoc refused a .proto file; its reason is above")
        for made in (SOURCE / "ensconce/kube/deviceplugin").glob("v1beta1_pb2.py*"):
            shutil.copy(made, SOURCE / "ensconce/node")  # which never imports kube
        super().run()


setup(
    cmdclass={"build_py": BuildMessages},
    ext_modules=[
        Extension(
            "ensconce._core",
            sources=CORE,
            depends=sorted(str(path) for path in Path("csrc").glob("*.h")),
            define_macros=[("Py_LIMITED_API", "0x030B0000"), ("_GNU_SOURCE", "1")],
            # no debug information: it would name the folder of the build
            extra_compile_args=["-std=c11", "-O2", "-g0", "-Wall", "-Wextra", "-Werror", *HIDDEN],
            extra_link_args=["-Wl,-z,now"],  # no lazy binding inside a signal handler
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
