# SPDX-License-Identifier: Apache-2.0
"""OCALLs to a hostile host: what a proxy may lend it, read back, and change in the enclave."""

from tests.sdk.bridges.hostile.draw import Draw
from tests.sdk.bridges.hostile.machine import ENCLAVE, HOST, TOP, Finding, Machine, require
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

from ensconce.edl.model import Kind, Member, Ocall, Parameter, StructDefinition

LONGEST = 512


class OcallCase:
    """One OCALL, drawn, made and judged."""

    def __init__(self, machine: Machine, function: Ocall, draw: Draw) -> None:
        self.machine = machine
        self.function = function
        self.draw = draw
        self.layout = machine.layout.marshalling(function)
        self.values: dict[str, bytes] = {}
        self.inside: dict[str, Block | None] = {}
        self.deep: dict[str, Deep] = {}
        self.retval = 0
        self.mistaken = False  # the trusted function itself passed what it must not
        self.blocks: dict[int, bytes] = {}  # the enclave's memory, as it has to be
        self.lent: list[tuple[int, int]] = []
        self.called = False
        self.answer = SUCCESS
        self.structure = 0
        self.written: dict[int, bytes] = {}

    # The trusted function

    def block(self, content: bytes) -> int:
        address = self.machine.allocate(content)
        if address:
            self.blocks[address] = content
        return address

    def arguments(self) -> bytes:
        """Draw the arguments; return them as the driver takes them."""
        draw, found = self.draw, bytearray()
        if self.layout is None:
            return b""
        result = self.layout.fields.get("ms_retval")
        if result is not None:
            self.retval = 0 if draw.rarely(8) else self.block(bytes(result.size))
            found += self.retval.to_bytes(8, "little")
        for item in self.function.parameters:
            if not item.checked:
                size = self.layout.fields[f"ms_{item.name}"].size
                self.values[item.name] = self.scalar(item, size)
        for item in self.function.parameters:
            if item.checked:
                self.values[item.name] = self.buffer(item).to_bytes(8, "little")
            found += self.values[item.name]
        return bytes(found)

    def scalar(self, item: Parameter, size: int) -> bytes:
        if item.type.kind is Kind.BUILTIN and not item.type.is_float and item.by_value:
            value = self.draw.length()
            if not self.draw.rarely(6):
                value *= unit(self.machine, self.function, item.name)
            return (value % (1 << 8 * size)).to_bytes(size, "little")
        return self.draw.fill(size)

    def mistake(self) -> int:
        """Return what is no buffer of the enclave's."""
        self.mistaken = True
        return self.draw.pick((self.machine.low, self.machine.enclave - 1, 0x10000, TOP - 1))

    def buffer(self, item: Parameter) -> int:
        draw, machine = self.draw, self.machine
        self.inside[item.name] = None
        already = self.mistaken
        null = draw.rarely(12)
        if item.is_text:
            width = 4 if item.wstring else 1
            text = bytes(1 + each % 255 for each in draw.fill(draw.number(9) * width))
            content = text + bytes(width)
        else:
            try:
                size = span(machine, self.function, item, self.values)
            except Refused as error:
                null = null and not isinstance(error, Overflow)
                size = TOP
            if null:
                return 0
            if size > LONGEST:  # more than there is: its end lies outside
                self.mistaken = True
                return machine.enclave + ENCLAVE - 8
            deep = deep_structure(machine.interface, item)
            content = draw.fill(size) if deep is None else self.elements(item.name, deep, size)
        if null:
            return 0
        if draw.rarely(16) and not item.is_text:
            return self.mistake()
        address = self.block(content)
        if address:
            self.inside[item.name] = Block(0, content, address)
        else:  # the enclave's memory is used up
            self.mistaken = already
        return address

    def elements(self, name: str, structure: StructDefinition, size: int) -> bytes:
        machine, draw = self.machine, self.draw
        one = machine.layout.sizeof(type_of(structure))
        places = machine.layout.structure(structure)
        made, deep = bytearray(), Deep(structure, [])
        for _ in range(size // one):
            element = bytearray(draw.fill(one))
            for member in structure.members:
                if not member.type.stars and not member.dimensions:
                    place = places[member.name]
                    value = draw.number(5).to_bytes(place.size, "little")
                    put(element, place.offset, value)
            blocks: dict[str, Block | None] = {}
            for member in structure.deep_members:
                pointer, block = self.member(structure, member, bytes(element))
                put(element, places[member.name].offset, pointer.to_bytes(8, "little"))
                blocks[member.name] = block
            deep.elements.append(blocks)
            made += element
        self.deep[name] = deep
        return bytes(made)

    def member(
        self, structure: StructDefinition, member: Member, element: bytes
    ) -> tuple[int, Block | None]:
        if self.draw.rarely(6):
            return 0, None
        if self.draw.rarely(24):
            return self.mistake(), None
        try:
            size = member_span(self.machine, structure, member, element)
        except Refused:
            self.mistaken = True
            size = 0
        if size > LONGEST:
            return 0, None
        content = self.draw.fill(size)
        address = self.block(content)
        return address, Block(0, content, address) if address else None

    # The call

    def run(self) -> None:
        """Make the call and judge it; raises Finding."""
        machine, draw = self.machine, self.draw
        machine.reset()
        arguments = self.arguments()
        redirected = draw.rarely(12)
        if redirected:
            machine.set("redirected", 1)
            base = machine.enclave
            places = (0, base, base + ENCLAVE - 16, base - 16, TOP - 24, machine.high + HOST - 64)
            machine.set("redirection", draw.pick(places))
        if draw.rarely(12):
            machine.set_failing(draw.number(3) + 1)
        before = machine.get("live")
        machine.play("host", self.host)
        status = machine.ocall(self.function, arguments)
        require(machine.get("open_frames") == 0, "it left untrusted memory allocated")
        require(machine.get("live") == before, "it left memory allocated")
        self.judge(status, redirected)
        for address, content in self.blocks.items():
            require(machine.read(address, len(content)) == content, "it changed", hex(address))
            machine.free(address)
        machine.check()

    def judge(self, status: int, redirected: bool) -> None:
        events = self.machine.events()
        kinds = "".join(event.kind for event in events)
        if not self.called:
            require(status != SUCCESS, "it says the call was made, and it was not")
            excused = self.mistaken or redirected or status == OUT_OF_MEMORY
            require(excused, "it refused a call that keeps every rule:", status)
            require("r" not in kinds, "it read the host's memory without a call")
            return
        require(not self.mistaken, "it made the call with what is not the enclave's")
        require(
            "w" not in kinds[kinds.index("c") :], "it wrote to the host's memory after the call"
        )
        reads, spoiled = Reads(events), False
        if self.answer == SUCCESS and self.layout is not None:
            try:
                self.fetch(reads)
            except Refused:
                spoiled = True
        reads.finish()
        require(spoiled or status == self.answer, "it answers", status)
        require(not spoiled or status != SUCCESS, "it takes what breaks a rule")

    # The host

    def host(self, index: int, structure: int) -> int:
        """Be the host: judge what was lent, change all of it, and answer."""
        machine, draw = self.machine, self.draw
        require(machine.interface.ocalls[index] is self.function, "another function was called")
        require(not self.called, "the host was called twice")
        self.called = True
        self.answer = draw.number(7) + 1 if draw.rarely(8) else SUCCESS
        if self.layout is None:
            require(structure == 0, "a function without parameters sends some")
            return self.answer
        self.written = {
            event.address: event.content for event in machine.events() if event.kind == "w"
        }
        content = self.borrow(structure, self.layout.size)
        self.structure = structure
        for item in self.function.parameters:
            place = self.layout.fields[f"ms_{item.name}"]
            value = content[place.offset : place.offset + place.size]
            if not item.checked:
                same = value == self.values[item.name] or not is_exact(item.type)
                require(same, f"{item.name} has another value than was passed")
            else:
                self.borrowed(item, number(value))
        require(not self.written, "it wrote what it did not lend")
        self.apart()
        self.scribble()
        return self.answer

    def borrow(self, address: int, size: int) -> bytes:
        """Return what was lent at an address, which was written once and whole."""
        content = self.written.pop(address, b"") if size else b""
        require(len(content) == size, f"{len(content)} bytes were lent, not {size}")
        require(self.machine.is_outside(address, size), "it lent its own memory")
        self.lent.append((address, size))
        return content

    def borrowed(self, item: Parameter, address: int) -> None:
        block = self.inside[item.name]
        if block is None:
            require(address == 0, f"{item.name} is not NULL")
            return
        deep = self.deep.get(item.name)
        block.outside = address
        if deep is not None:
            self.borrowed_structures(block, deep)
            return
        content = self.borrow(address, block.size)
        expected = block.content if is_in(item) else bytes(block.size)
        require(content == expected, f"{item.name} was lent with other content")

    def borrowed_structures(self, block: Block, deep: Deep) -> None:
        one = self.machine.layout.sizeof(type_of(deep.structure))
        places = self.machine.layout.structure(deep.structure)
        for index, blocks in enumerate(deep.elements):
            element = bytearray(self.borrow(block.outside + index * one, one))
            expected = bytearray(block.content[index * one : index * one + one])
            for name, inner in blocks.items():
                offset = places[name].offset
                pointer = number(element[offset : offset + 8])
                put(expected, offset, element[offset : offset + 8])
                if inner is None or inner.size == 0:
                    require(pointer == 0, f"{name} is not NULL")
                else:
                    inner.outside = pointer
                    require(self.borrow(pointer, inner.size) == inner.content, f"{name} differs")
            require(element == expected, "a structure was lent with other content")

    def apart(self) -> None:
        """Require that nothing lent overlaps."""
        last = 0
        for address, size in sorted(self.lent):
            require(size == 0 or address >= last, "what was lent overlaps")
            last = max(last, address + size)

    def scribble(self) -> None:
        """Change what was lent, mostly so that the call can go on."""
        machine, draw = self.machine, self.draw
        assert self.layout is not None
        if draw.number(3) != 2:
            machine.host_write(self.structure, draw.fill(self.layout.size))
        for item in self.function.parameters:
            block = self.inside.get(item.name)
            if block is None:
                continue
            deep = self.deep.get(item.name)
            if deep is None:
                machine.host_write(block.outside, draw.fill(block.size))
                continue
            one = machine.layout.sizeof(type_of(deep.structure))
            for index, blocks in enumerate(deep.elements):
                self.scribble_structure(block.outside + index * one, deep.structure, blocks)

    def scribble_structure(
        self, address: int, structure: StructDefinition, blocks: dict[str, Block | None]
    ) -> None:
        machine, draw = self.machine, self.draw
        for name, place in machine.layout.structure(structure).items():
            block = blocks.get(name)
            if block is not None and block.size:
                machine.host_write(block.outside, draw.fill(block.size))
            if name in blocks:
                if draw.rarely(8):
                    wild = draw.pick((0, machine.enclave, machine.low, address))
                    machine.host_write(address + place.offset, wild.to_bytes(8, "little"))
            elif draw.rarely(3):
                value = draw.length() % (1 << 8 * min(place.size, 8))
                machine.host_write(address + place.offset, value.to_bytes(place.size, "little"))

    # What may be read back

    def fetch(self, reads: Reads) -> None:
        """Follow the rules on the way back; raises Refused once the host broke one."""
        assert self.layout is not None
        fields = self.layout.fields
        try:
            if self.retval:
                place = fields["ms_retval"]
                self.blocks[self.retval] = reads.take(self.structure + place.offset, place.size)
            for item in self.function.parameters:
                block = self.inside.get(item.name)
                if block is not None and is_out(item):
                    self.fetch_one(item, block, reads)
            errno = fields.get("ocall_errno")
            if errno is not None:
                reads.take(self.structure + errno.offset, errno.size)
        except Missing as error:
            raise Finding(str(error)) from error

    def fetch_one(self, item: Parameter, block: Block, reads: Reads) -> None:
        deep = self.deep.get(item.name)
        if deep is not None:
            self.fetch_structures(block, deep, reads)
        elif block.size:
            content = reads.take(block.outside, block.size)
            if item.is_text:
                content, length = end(item, content)
                content = content[:length].ljust(block.size, b"\0")
            self.blocks[block.inside] = content

    def fetch_structures(self, block: Block, deep: Deep, reads: Reads) -> None:
        machine = self.machine
        one = machine.layout.sizeof(type_of(deep.structure))
        places = machine.layout.structure(deep.structure)
        for index, blocks in enumerate(deep.elements):
            element = bytearray(reads.take(block.outside + index * one, one))
            for member in deep.structure.deep_members:
                offset, inner = places[member.name].offset, blocks[member.name]
                pointer = number(element[offset : offset + 8])
                if inner is not None:
                    size = member_span(machine, deep.structure, member, bytes(element))
                    if size > inner.size or (size and pointer != inner.outside):
                        raise Refused(f"the host changed {member.name}")
                    if size:
                        content = reads.take(pointer, size)
                        self.blocks[inner.inside] = content + inner.content[size:]
                own = inner.inside if inner is not None else 0
                put(element, offset, own.to_bytes(8, "little"))
            whole = bytearray(self.blocks[block.inside])
            put(whole, index * one, element)
            self.blocks[block.inside] = bytes(whole)
