# SPDX-License-Identifier: Apache-2.0
"""Opening an enclave file of whatever format."""

import mmap
import os
import stat
from pathlib import Path

from ensconce.errors import FormatError
from ensconce.image.page import Image
from ensconce.image.sdk_image import SdkImage
from ensconce.image.sgxs import ECREATE, UNSIZED, SgxsImage
from ensconce.isa.record import BytesLike
from ensconce.isa.sigstruct import SigStruct

__all__ = ["map_file", "open_image"]

_ELF_MAGIC = b"\x7fELF"
_PE_MAGIC = b"MZ"


def open_image(
    file: str | os.PathLike[str] | BytesLike,
    *,
    source: str = "",
    sigstruct: SigStruct | None = None,
    dynamic_memory: bool = True,
) -> Image:
    """Open an enclave: a path, which is mapped and not read, or the bytes of a file.

    `source` is what messages call it; a path's own name by default. `sigstruct` takes the
    place of the file's own; beside `x.sgxs` a file `x.sig` is found by itself. `dynamic_memory`
    says whether a metadata copy that uses SGX2 may be chosen. Raises `FormatError` for what is
    no enclave, `UnsignedError` for an SDK enclave that was not signed, `OSError` for a path that
    can't be read. A file must not be cut while it is open: replace it instead.
    """
    if isinstance(file, bytes | bytearray | memoryview):
        data, source = memoryview(file), source or "the enclave"
    else:
        path = Path(file)
        data, source = map_file(path, source=source or str(file)), source or str(file)
        if sigstruct is None and data[:8] == ECREATE:
            sigstruct = _sigstruct_beside(path)
    if data[:4] == _ELF_MAGIC:
        return SdkImage.parse(
            data, source=source, sigstruct=sigstruct, dynamic_memory=dynamic_memory
        )
    if data[:8] in (ECREATE, UNSIZED):
        return SgxsImage.parse(data, source=source, sigstruct=sigstruct)
    kind = "a Windows program" if data[:2] == _PE_MAGIC else "neither an ELF nor an SGXS file"
    raise FormatError(f"{source} is {kind}; give a signed enclave (.so or .sgxs)", source=source)


def map_file(path: Path, *, source: str = "") -> memoryview:
    """Return a regular file's bytes, mapped read-only."""
    source = source or str(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{source} is not a regular file; give an enclave", source=source)
        if not status.st_size:
            raise FormatError(f"{source} is empty; give an enclave", source=source)
        return memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))
    finally:
        os.close(descriptor)


def _sigstruct_beside(path: Path) -> SigStruct | None:
    """Return the SIGSTRUCT in the `.sig` file that belongs to an SGXS file, if there is one."""
    beside = path.with_suffix(".sig")
    if not beside.is_file():
        return None
    if beside.stat().st_size != SigStruct.SIZE:
        raise FormatError(
            f"{beside} is not a SIGSTRUCT of {SigStruct.SIZE} bytes", source=str(beside)
        )
    return SigStruct.parse(beside.read_bytes(), source=str(beside))
