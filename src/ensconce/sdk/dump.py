# SPDX-License-Identifier: Apache-2.0
"""The metadata of a signed enclave as the vendor's signing tool prints it.

Scripts pick MRENCLAVE and MRSIGNER out of this text, so its labels are the vendor's.
"""

from collections.abc import Iterator

from ensconce.errors import UnsignedError
from ensconce.image.enclave_elf import EnclaveElf
from ensconce.image.metadata import MetadataHeader

__all__ = ["render_metadata"]

_ROW = 16


def render_metadata(file: EnclaveElf) -> str:
    """Return every copy of a file's metadata as text, and MRSIGNER at its end."""
    if not file.metadata:
        raise UnsignedError(f"{file.source} is not signed: it has no metadata to dump")
    first, *others = (metadata.header for metadata in file.metadata)
    lines = [*_title("The metadata information:", 29), *_header(first)]
    for number, header in enumerate(others, 1):
        if number == 1:
            lines += ["", "", "", *_title("The compatible metadata information: ", 36)]
        lines += ["", f"Compatible metadata number {number}:", "-" * 30, *_header(header)]
    lines += ["", "", *_title("The mrsigner value:", 19)]
    lines += _array("mrsigner->value", first.sigstruct.mr_signer)
    return "\n".join([*lines, ""])


def _title(text: str, width: int) -> list[str]:
    return ["=" * width, text, "=" * width]


def _header(header: MetadataHeader) -> Iterator[str]:
    """Yield the lines of one copy."""
    css = header.sigstruct
    for name, value in (
        ("magic_num", header.magic),
        ("version", header.version),
        ("size", header.size),
        ("tcs_policy", header.tcs_policy),
        ("ssa_frame_size", header.ssa_frame_size),
        ("max_save_buffer_size", header.max_save_buffer_size),
        ("desired_misc_select", header.desired_misc_select),
        ("enclave_size", header.enclave_size),
        ("attributes.flags", header.attributes.flags),
        ("attributes.xfrm", header.attributes.xfrm),
    ):
        yield _number(name, value)
    yield from _array("metadata->enclave_css.header.header", css.header[:12])
    yield _number("enclave_css.header.type", int.from_bytes(css.header[12:], "little"))
    yield _number("enclave_css.header.module_vendor", css.vendor)
    yield _number("enclave_css.header.date", css.date)
    yield from _array("metadata->enclave_css.header.header2", css.header2)
    yield _number("enclave_css.header.hw_version", css.sw_defined)
    yield from _array("metadata->enclave_css.key.modulus", css.modulus)
    yield from _array("metadata->enclave_css.key.exponent", css.exponent.to_bytes(4, "little"))
    yield from _array("metadata->enclave_css.key.signature", css.signature)
    for name, value in (
        ("misc_select", css.misc_select),
        ("misc_mask", css.misc_mask),
        ("attributes.flags", css.attributes.flags),
        ("attributes.xfrm", css.attributes.xfrm),
        ("attribute_mask.flags", css.attribute_mask.flags),
        ("attribute_mask.xfrm", css.attribute_mask.xfrm),
    ):
        yield _number(f"enclave_css.body.{name}", value)
    yield from _array("metadata->enclave_css.body.enclave_hash.m", css.enclave_hash)
    yield _number("enclave_css.body.isv_prod_id", css.isv_prod_id)
    yield _number("enclave_css.body.isv_svn", css.isv_svn)
    yield from _array("metadata->enclave_css.buffer.q1", css.q1)
    yield from _array("metadata->enclave_css.buffer.q2", css.q2)


def _number(name: str, value: int) -> str:
    return f"metadata->{name}: {int(value):#x}"


def _array(name: str, value: bytes) -> Iterator[str]:
    """Yield a name and its bytes, sixteen a line; each byte is followed by a blank."""
    yield f"{name}:"
    for at in range(0, len(value), _ROW):
        yield "".join(f"0x{byte:02x} " for byte in value[at : at + _ROW])
