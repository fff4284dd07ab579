# SPDX-License-Identifier: Apache-2.0
"""The little of DER (ITU-T X.690) that SGX needs: read strictly, without recursion."""

from typing import NamedTuple

from ensconce.errors import FormatError

__all__ = [
    "BOOLEAN",
    "ENUMERATED",
    "INTEGER",
    "OBJECT_IDENTIFIER",
    "OCTET_STRING",
    "SEQUENCE",
    "Element",
    "boolean",
    "children",
    "elements",
    "encode",
    "encode_integer",
    "encode_oid",
    "first_element",
    "integer",
    "only_child",
]

BOOLEAN, INTEGER, OCTET_STRING, OBJECT_IDENTIFIER, ENUMERATED, SEQUENCE = 1, 2, 4, 6, 10, 0x30


def children(data: bytes, source: str) -> list[tuple[int, bytes]]:
    """Return tag and contents of each element in a constructed one's contents."""
    elements = []
    position, end = 0, len(data)
    while position < end:
        tag = data[position]
        if tag & 0x1F == 0x1F:
            raise _fault(source, position, "a tag of more than one byte")
        position += 2
        if position > end or (size := data[position - 1]) >= 0x80:  # nearly all are shorter
            size, position = _length(data, position - 1, source)
        stop = position + size
        if stop > end:
            raise _fault(source, position, f"an element of {size} bytes that is cut short")
        elements.append((tag, data[position:stop]))
        position = stop
    return elements


class Element(NamedTuple):
    """An element: its tag, its contents, and all of its bytes, as a signature covers them."""

    tag: int
    contents: bytes
    whole: bytes


def elements(data: bytes, source: str) -> list[Element]:
    """Return each element in a constructed one's contents, with the bytes that it is."""
    found = []
    position = 0
    for tag, contents in children(data, source):
        size = len(contents)
        longer = (size.bit_length() + 7) // 8 if size >= 0x80 else 0  # lengths are minimal
        stop = position + 2 + longer + size
        found.append(Element(tag, contents, data[position:stop]))
        position = stop
    return found


def only_child(data: bytes, tag: int, source: str) -> bytes:
    """Return the contents of the one element that the data is."""
    elements = children(data, source)
    if len(elements) != 1 or elements[0][0] != tag:
        raise _fault(source, 0, f"not exactly one element of tag {tag:#x}")
    return elements[0][1]


def first_element(data: bytes, source: str) -> bytes:
    """Return the first element whole, with its tag and length."""
    size, position = _length(data, 1, source)
    if position + size > len(data):
        raise _fault(source, position, f"an element of {size} bytes that is cut short")
    return data[: position + size]


def integer(contents: bytes, source: str) -> int:
    """Return an INTEGER or ENUMERATED that is not negative and minimally encoded."""
    if not contents or contents[0] & 0x80:
        raise _fault(source, 0, "a negative or empty number")
    if len(contents) > 1 and contents[0] == 0 and not contents[1] & 0x80:
        raise _fault(source, 0, "a number with needless zeros")
    return int.from_bytes(contents, "big")


def boolean(contents: bytes, source: str) -> bool:
    """Return a BOOLEAN."""
    if contents not in (b"\x00", b"\xff"):
        raise _fault(source, 0, "a boolean that is neither 0 nor 255")
    return contents == b"\xff"


def encode(tag: int, contents: bytes) -> bytes:
    """Return an element."""
    size = len(contents)
    if size < 0x80:
        return bytes((tag, size)) + contents
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + contents


def encode_integer(value: int, tag: int = INTEGER) -> bytes:
    """Return an INTEGER or ENUMERATED element of a number that is not negative."""
    return encode(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def encode_oid(dotted: str) -> bytes:
    """Return the contents of an OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        encoded += bytes(reversed(groups))
    return bytes(encoded)


def _length(data: bytes, position: int, source: str) -> tuple[int, int]:
    """Return an element's length and where its contents begin."""
    if position >= len(data):
        raise _fault(source, position, "an element without a length")
    first = data[position]
    position += 1
    if first < 0x80:
        return first, position
    count = first & 0x7F
    digits = data[position : position + count]
    if not 1 <= count <= 4 or len(digits) != count or digits[0] == 0:
        raise _fault(source, position, "a length that is indefinite, cut short or not minimal")
    size = int.from_bytes(digits, "big")
    if size < 0x80:
        raise _fault(source, position, "a length that is not minimal")
    return size, position + count


def _fault(source: str, offset: int, what: str) -> FormatError:
    """Return the error of data that is not DER."""
    return FormatError(f"{source} has {what}; it is not valid DER", source=source, offset=offset)
