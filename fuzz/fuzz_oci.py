# SPDX-License-Identifier: Apache-2.0
"""Fuzz what reads images of strangers: layouts, documents, layers, and archives as such.

Digests would stop every change that a fuzzer makes to a layer, so an input is walked as a layer
too, and put as documents into a layout whose digests are right.
"""

import contextlib
import hashlib
import io
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import EnsconceError
    from ensconce.oci.archive import MANIFEST_TYPE
    from ensconce.oci.inspection import inspect_archive
    from ensconce.oci.linking import needed_libraries
    from ensconce.oci.tar import TarWalk
    from ensconce.oci.tree import Tree, write_tar

LIMIT = 1 << 24


def with_manifest(data: bytes) -> io.BytesIO:
    """Return a layout whose manifest is the input."""
    digest = hashlib.sha256(data).hexdigest()
    index = f'"mediaType":"{MANIFEST_TYPE}","digest":"sha256:{digest}","size":{len(data)}'
    files = Tree()
    files.file("index.json", b'{"manifests":[{' + index.encode() + b"}]}")
    files.file(f"blobs/sha256/{digest}", data)
    return io.BytesIO(write_tar(files, 0))


def one_input(data: bytes) -> None:
    walk = TarWalk(io.BytesIO(data), "input", LIMIT)
    with contextlib.suppress(EnsconceError):
        for member in walk:
            assert ".." not in member.path.split("/")
            assert not member.path.startswith("/")
            assert len(walk.read(member.size)) == member.size
    with contextlib.suppress(EnsconceError):
        inspect_archive(io.BytesIO(data), "input")
    with contextlib.suppress(EnsconceError):
        inspect_archive(with_manifest(data), "input")
    needed_libraries(data, "input")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
