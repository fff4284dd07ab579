# SPDX-License-Identifier: Apache-2.0
"""ECALLs of a hostile host: what it passes, and what a bridge may read, give and write."""

from ctypes import string_at

from tests.sdk.bridges.hostile.draw import Draw
from tests.sdk.bridges.hostile.machine import (
    ENCLAVE,
    LARGEST,
    TOP,
    Event,
    Finding,
    Machine,
    require,
)
from tests.sdk.bridges.hostile.rules import (
    OUT_OF_MEMORY,
    SUCCESS,
    Block,
    Deep,
    Missing,
    Overflow,
    Reads,
    Refused,
    deep_structure,
    end,
    is_exact,
    is_in,
    is_out,
    member_span,
    number,
    put,
    span,
    type_of,
    unit,
)

from ensconce.edl.model import Ecall, Kind, Parameter, StructDefinition

FILLED = 2048  # bytes of a buffer that the host really fills


class EcallCase:
    """One ECALL, drawn, made and judged."""

    def __init__(self, machine: Machine, function: Ecall, draw: Draw) -> None:
        self.machine = machine
        self.function = function
        self.draw = draw
        self.layout = machine.layout.marshalling(function)
        self.address = 0
        self.called = False
        self.inside: dict[str, Block | None] = {}
        self.deep: dict[str, Deep] = {}
        self.values: dict[str, bytes] = {}
        self.expected: list[tuple[int, bytes]] = []
        self.spoiled = False  # what the trusted function left can't be copied back
        self.fresh: list[int] = []

    # The host

    def wild(self, size: int) -> int:
        """Return an address that a hostile host may think of."""
        draw, base = self.draw, self.machine.enclave
        choices = (
            0,
            base + draw.number(ENCLAVE),
            base - draw.number(size + 1),
            base + ENCLAVE - draw.number(size + 1),
            base - size,
            base + ENCLAVE,
            TOP - draw.number(size + 1) - 1,
            self.address + draw.number(64),
            self.machine.low + draw.number(64),
            0x10000,
        )
        return draw.pick(choices) % TOP

    def pointer(self, size: int, content: bytes) -> int:
        """Return an address for a buffer, with content where it is the host's own memory."""
        address = self.wild(size) if self.draw.rarely(8) else self.machine.place(len(content))
        self.machine.host_write(address, content)
        return address

    def structure(self) -> int:
        """Put a marshalling structure in the host's memory; return its address."""
        layout, draw, machine = self.layout, self.draw, self.machine
        if layout is None:
            return 0 if not draw.rarely(4) else machine.place(8)
        machine.place(draw.number(16))
        self.address = machine.place(layout.size)
        values = {
            item.name: self.scalar(item, layout.fields[f"ms_{item.name}"].size)
            for item in self.function.parameters
            if not item.checked
        }
        content = bytearray(draw.fill(layout.size))
        for item in self.function.parameters:
            place = layout.fields[f"ms_{item.name}"]
            if item.checked:
                pointer, size = self.buffer(item, values)
                values[item.name] = pointer.to_bytes(8, "little")
                length = layout.fields.get(f"ms_{item.name}_len")
                if length is not None:
                    content[length.offset : length.offset + 8] = size.to_bytes(8, "little")
            content[place.offset : place.offset + place.size] = values[item.name]
        if draw.rarely(24):
            self.address = self.wild(layout.size)
        machine.host_write(self.address, bytes(content))
        return self.address

    def scalar(self, item: Parameter, size: int) -> bytes:
        if item.type.kind is Kind.BUILTIN and not item.type.is_float and item.by_value:
            value = self.draw.length()
            if not self.draw.rarely(6):
                value *= unit(self.machine, self.function, item.name)
            return (value % (1 << 8 * size)).to_bytes(size, "little")
        return self.draw.fill(size)

    def buffer(self, item: Parameter, values: dict[str, bytes]) -> tuple[int, int]:
        """Return a pointer for a parameter, and for a text the length that the host claims."""
        draw = self.draw
        if item.is_text:
            width = 4 if item.wstring else 1
            size = draw.length() % TOP if draw.rarely(4) else (draw.number(9) + 1) * width
            text = bytearray(1 + each % 255 for each in draw.fill(min(size, FILLED)))
            text[max(0, len(text) - width) :] = bytes(min(len(text), width))
            if draw.rarely(8) and text:
                at = draw.number(len(text)) // width * width
                text[at : at + width] = bytes(width)
            return self.pointer(size, bytes(text)), size
        try:
            size = span(self.machine, self.function, item, values)
        except Refused:
            size = FILLED
        filled = min(size, FILLED)
        deep = deep_structure(self.machine.interface, item)
        content = draw.fill(filled) if deep is None else self.elements(deep, filled)
        return self.pointer(size, content), size

    def elements(self, structure: StructDefinition, size: int) -> bytes:
        """Return structures whose members point somewhere, as many as `size` holds."""
        one = self.machine.layout.sizeof(type_of(structure))
        places = self.machine.layout.structure(structure)
        made = bytearray()
        for index in range(-(-size // one)):
            element = bytearray(self.draw.fill(one) if index < 6 else bytes(one))
            for member in structure.members if index < 6 else ():
                if member.type.kind is Kind.BUILTIN and not member.type.stars:
                    place = places[member.name]
                    if not member.dimensions and not member.type.is_float:
                        value = self.draw.length() % (1 << 8 * place.size)
                        put(element, place.offset, value.to_bytes(place.size, "little"))
            for member in structure.deep_members if index < 6 else ():
                try:
                    length = member_span(self.machine, structure, member, bytes(element))
                except Refused:
                    length = FILLED
                content = self.draw.fill(min(length, 256))
                address = 0 if self.draw.rarely(6) else self.pointer(length, content)
                put(element, places[member.name].offset, address.to_bytes(8, "little"))
            made += element
        return bytes(made[:size])

    # The call

    def run(self) -> None:
        """Make the call and judge it; raises Finding."""
        machine, draw = self.machine, self.draw
        machine.reset()
        index = machine.interface.ecalls.index(self.function)
        address = self.structure()
        self.address = address
        if draw.rarely(8):
            machine.set_failing(draw.number(12) + 1)
        machine.play("trusted", self.trusted)
        status = machine.ecall(index, address)
        for block in self.fresh:
            machine.free(block)
        if self.layout is None:
            require(self.called == (address == 0), "a function without parameters got some")
        else:
            self.judge(status)
        require(machine.get("live") == 0, "it left memory allocated")

    def judge(self, status: int) -> None:
        events = self.machine.events()
        writes = [(event.address, event.content) for event in events if event.kind == "w"]
        if self.called and writes and not is_exact(self.function.result):
            writes[0] = (writes[0][0], self.expected[0][1][: len(writes[0][1])])  # has padding
        if not self.called:
            require(status != SUCCESS, "it says the call was made, and it was not")
            require(not writes, "it wrote to the host's memory, and did not make the call")
            reads = Reads(events)
            try:
                self.enter(reads)
                require(status == OUT_OF_MEMORY, "it refused a call that keeps every rule:", status)
            except Refused:
                pass
            except Missing as error:
                require(status == OUT_OF_MEMORY, error)
            reads.finish()
            return
        late = [event.kind for event in events[[event.kind for event in events].index("t") :]]
        require("r" not in late, "it read the host's memory after the call")
        require(writes == self.expected, "it wrote", show(writes), "not", show(self.expected))
        require((status == SUCCESS) != self.spoiled, "it answers", status)

    # What may be read

    def enter(self, reads: Reads) -> None:
        """Follow the rules on the way in; raises Refused, or Missing for a read not made."""
        machine, layout = self.machine, self.layout
        assert layout is not None
        if self.address == 0 or not machine.is_outside(self.address, layout.size):
            raise Refused("the structure is not the host's")
        content = reads.take(self.address, layout.size)
        for name, place in layout.fields.items():
            value = content[place.offset : place.offset + place.size]
            self.values[name.removeprefix("ms_")] = value
        copied = [item for item in self.function.parameters if item.checked]
        spans = {item.name: self.checked_span(item) for item in copied}
        for item in copied:
            pointer, size = number(self.values[item.name]), spans[item.name]
            self.inside[item.name] = None
            if pointer != 0 and size != 0:
                self.inside[item.name] = Block(pointer, self.copied_in(item, size, reads))

    def checked_span(self, item: Parameter) -> int:
        pointer = number(self.values[item.name])
        if item.is_text:
            size = number(self.values[f"{item.name}_len"])
        else:
            try:
                size = span(self.machine, self.function, item, self.values)
            except Overflow:
                raise
            except Refused:
                if pointer:
                    raise
                return 0
        if pointer and not self.machine.is_outside(pointer, size):
            raise Refused(f"{item.name} is not the host's")
        return size

    def copied_in(self, item: Parameter, size: int, reads: Reads) -> bytes:
        pointer = number(self.values[item.name])
        if item.wstring and size % 4:
            raise Refused("a wide text has a broken character")
        if not is_in(item):
            if size > LARGEST:
                raise Missing(f"{item.name} is larger than the enclave's memory")
            content = bytes(size)
        else:
            content = reads.take(pointer, size)
        if item.is_text:
            content, length = end(item, content)
            if length != size:
                raise Refused(f"{item.name} ends too early")
        structure = deep_structure(self.machine.interface, item)
        if structure is not None:
            self.deep[item.name] = self.deep_in(structure, content, reads)
        return content

    def deep_in(self, structure: StructDefinition, content: bytes, reads: Reads) -> Deep:
        one = self.machine.layout.sizeof(type_of(structure))
        places = self.machine.layout.structure(structure)
        found = []
        for at in range(0, len(content) - one + 1, one):
            element = content[at : at + one]
            blocks: dict[str, Block | None] = {}
            for member in structure.deep_members:
                place = places[member.name]
                pointer = number(element[place.offset : place.offset + 8])
                blocks[member.name] = None
                if pointer == 0:
                    continue
                size = member_span(self.machine, structure, member, element)
                if not self.machine.is_outside(pointer, size):
                    raise Refused(f"{member.name} is not the host's")
                taken = reads.take(pointer, size) if size else b""
                blocks[member.name] = Block(pointer, taken)
            found.append(blocks)
        return Deep(structure, found)

    # The trusted function

    def trusted(self, index: int) -> None:
        """Be the trusted function: judge what it got, change what it may, and answer."""
        machine = self.machine
        require(machine.interface.ecalls[index] is self.function, "another function was called")
        require(not self.called, "the function was called twice")
        self.called = True
        if self.layout is None:
            return
        events = machine.events()
        reads = Reads(events)
        try:
            self.enter(reads)
        except (Refused, Missing) as error:
            raise Finding(f"it made the call although {error}") from error
        reads.finish()
        require("w" not in {event.kind for event in events}, "it wrote before the call")
        require(self.fenced(events), "checks and copies have no fence between them")
        self.got()
        self.change()
        self.leave()

    def fenced(self, events: list[Event]) -> bool:
        """True when a fence stands before the first read, and before the copies that follow."""
        kinds = [event.kind for event in events if event.kind in "fr"]
        return kinds[:2] == ["f", "r"] and (len(kinds) == 2 or kinds[2] == "f")

    def got(self) -> None:
        """Require that the function got the copies and values that the rules give it."""
        assert self.layout is not None
        at = self.machine.arguments
        for item in self.function.parameters:
            place = self.layout.fields[f"ms_{item.name}"]
            value = string_at(at, place.size)
            at += place.size
            if not item.checked:
                same = value == self.values[item.name] or not is_exact(item.type)
                require(same, f"{item.name} has another value than was read")
                continue
            block = self.inside[item.name]
            if block is None:
                require(number(value) == 0, f"{item.name} is not NULL")
                continue
            self.copied(item.name, number(value), block, self.deep.get(item.name))
            block.inside = number(value)

    def copied(self, name: str, address: int, block: Block, deep: Deep | None) -> None:
        machine = self.machine
        size = machine.block_size(address)
        require(size == block.size, f"{name} is a block of {size} bytes, not {block.size}")
        content = bytearray(machine.read(address, size))
        if deep is not None:
            places = machine.layout.structure(deep.structure)
            one = machine.layout.sizeof(type_of(deep.structure))
            for index, blocks in enumerate(deep.elements):
                for member, inner in blocks.items():
                    offset = index * one + places[member].offset
                    pointer = number(content[offset : offset + 8])
                    put(content, offset, block.content[offset : offset + 8])
                    if inner is None or inner.size == 0:
                        require(pointer == 0, f"{name}.{member} is not NULL")
                    else:
                        self.copied(f"{name}.{member}", pointer, inner, None)
        require(content == block.content, f"{name} has other content than was read")

    def change(self) -> None:
        """Write to the function's buffers as a trusted function may, and as one should not."""
        machine, draw = self.machine, self.draw
        machine.answer(draw.fill(64))
        for item in self.function.parameters:
            block = self.inside.get(item.name)
            if block is None or draw.number(4) == 3:
                continue
            deep = self.deep.get(item.name)
            if deep is None:
                machine.write(block.inside, draw.fill(block.size))
                continue
            places = machine.layout.structure(deep.structure)
            one = machine.layout.sizeof(type_of(deep.structure))
            for index, blocks in enumerate(deep.elements):
                for name, place in places.items():
                    address = block.inside + index * one + place.offset
                    if name in blocks:
                        self.change_member(address, blocks[name])
                    elif draw.rarely(8):
                        machine.write(address, draw.take(1))

    def change_member(self, place: int, inner: Block | None) -> None:
        machine, draw = self.machine, self.draw
        pointer = number(machine.read(place, 8))
        if pointer:
            machine.write(pointer, draw.fill(machine.block_size(pointer)))
        way = draw.number(16)
        if way == 15:
            machine.write(place, self.wild(16).to_bytes(8, "little"))
            if machine.is_inside(number(machine.read(place, 8)), 1):
                machine.write(place, bytes(8))  # an address that a copy would fault at
        elif way == 14:
            block = machine.allocate(draw.fill(inner.size if inner is not None else 8))
            if block:
                self.fresh.append(block)
                machine.write(place, block.to_bytes(8, "little"))
        elif way == 13:
            machine.write(place, bytes(8))

    # What may be written

    def leave(self) -> None:
        """Work out every write that has to follow, from what the function left."""
        assert self.layout is not None
        result = self.layout.fields.get("ms_retval")
        if result is not None:
            answer = string_at(self.machine.results, result.size)
            self.expected.append((self.address + result.offset, answer))
        for item in self.function.parameters:
            block = self.inside.get(item.name)
            if block is None or not is_out(item) or self.spoiled:
                continue
            content = self.machine.read(block.inside, block.size)
            if item.name in self.deep:
                content = self.deep_out(self.deep[item.name], content)
            if item.is_text:
                content, length = end(item, content)
                content = content[:length]
            if not self.spoiled:
                self.expected.append((number(self.values[item.name]), content))

    def deep_out(self, deep: Deep, content: bytes) -> bytes:
        """Follow the members of what is copied back; return it with the host's own pointers."""
        machine = self.machine
        places = machine.layout.structure(deep.structure)
        one = machine.layout.sizeof(type_of(deep.structure))
        found = bytearray(content)
        for index, blocks in enumerate(deep.elements):
            element = bytearray(content[index * one : index * one + one])
            for member in deep.structure.deep_members:
                offset, block = places[member.name].offset, blocks[member.name]
                inside = number(element[offset : offset + 8])
                room, outside = (block.size, block.outside) if block is not None else (0, 0)
                put(element, offset, outside.to_bytes(8, "little"))
                if inside == 0 or self.spoiled:
                    continue
                try:
                    size = member_span(machine, deep.structure, member, bytes(element))
                except Refused:
                    size = TOP
                if size > room or not machine.is_inside(inside, size):
                    self.spoiled = True
                elif size:
                    self.expected.append((outside, machine.read(inside, size)))
            put(found, index * one, bytes(element))
        return bytes(found)


def show(writes: list[tuple[int, bytes]]) -> str:
    return ", ".join(f"{len(content)} bytes at {address:#x}" for address, content in writes)
