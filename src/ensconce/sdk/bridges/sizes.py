# SPDX-License-Identifier: Apache-2.0
"""C expressions for how many bytes stand behind a pointer."""

from collections.abc import Callable

from ensconce.edl.model import Interface, Kind, Member, Parameter

__all__ = ["Size", "size_of"]

_ONE_BYTE = ("char", "unsigned char", "int8_t", "uint8_t")


class Size:
    """Bytes as `size` times `count`, and the `element` they must be whole multiples of.

    `count` is None where the size is one term that can't overflow; `element` is None where
    nothing is to be checked. All are C expressions of type size_t.
    """

    def __init__(self, size: str, count: str | None, element: str | None) -> None:
        self.size = size
        self.count = count
        self.element = element


def size_of(
    item: Parameter | Member, interface: Interface, value: Callable[[str], str], pointer: str
) -> Size:
    """Return the size of what `item` points to.

    `value` gives the C expression of another parameter or member, `pointer` is that of the item.
    """

    def term(wanted: int | str) -> str:
        return f"(size_t){value(wanted)}" if isinstance(wanted, str) else str(wanted)

    one = _element(item, pointer)
    if isinstance(item, Parameter) and item.dimensions:
        if item.type.kind is Kind.BUILTIN:
            return Size(f"{item.elements} * {one}", None, None)
        return Size(one, str(item.elements), None)
    size = one if item.size is None else term(item.size)
    count = None if item.count is None else term(item.count)
    return Size(size, count, one if _must_be_whole(item, interface) else None)


def _element(item: Parameter | Member, pointer: str) -> str:
    """Return the size of one element."""
    if isinstance(item, Parameter):
        return f"sizeof(*{pointer})" if item.isptr else f"sizeof({item.pointee})"
    return f"sizeof({item.type.pointee()})"


def _must_be_whole(item: Parameter | Member, interface: Interface) -> bool:
    """True when the size is the caller's word and the element's size is known to EDL.

    As with the vendor's tool, buffers of void, of foreign types and of plain structures may
    have any size, since they often carry a header and a tail.
    """
    if item.size is None:
        return False
    pointee = item.pointee if isinstance(item, Parameter) else item.type.pointee()
    if pointee.stars:
        return True
    if pointee.kind is Kind.STRUCT:
        return isinstance(item, Parameter) and interface.deep_structure(item) is not None
    return pointee.kind is not Kind.FOREIGN and pointee.name not in ("void", *_ONE_BYTE)
