# Made from enclave.edl by ensconce; changes here will be lost.
import ctypes
from array import array
from typing import Any, Protocol

_Writable = (
    bytearray | memoryview | array[Any] | ctypes.Array[Any] | ctypes.Structure
    | ctypes.Union | ctypes._SimpleCData[Any]
)
_Readable = bytes | _Writable
_Struct = dict[str, Any] | list[dict[str, Any]]  # by the members' names

class Ecalls(Protocol):
    def checksum(self, data: _Readable | None, size: int, /) -> int:
        """public uint32_t checksum([in, size=size] const uint8_t* data, size_t size)"""
    def pattern(self, target: _Writable | None, size: int, /) -> None:
        """public void pattern([out, size=size] uint8_t* target, size_t size)"""
    def reverse(self, numbers: _Writable | None, count: int, /) -> None:
        """public void reverse([in, out, count=count] int32_t* numbers, size_t count)"""
    def divide(self, left: int, right: int, quotient: _Writable | None, /) -> int:
        """public int divide(int32_t left, int32_t right, [out] int32_t* quotient)"""
    def count_letters(self, text: str | _Readable | None, /) -> int:
        """public size_t count_letters([in, string] const char* text)"""
    def shout(self, text: _Writable | None, /) -> None:
        """public void shout([in, out, string] char* text)"""
    def move(self, where: _Struct | _Writable | None, by: int, /) -> None:
        """public void move([in, out] struct point* where, int32_t by)"""
    def span(self, points: _Struct | _Readable | None, count: int, /) -> int:
        """public int64_t span([in, count=count] const struct point* points, size_t count)"""
    def sum(self, data: int, size: int, total: _Writable | None, /) -> int:
        """public int sum([user_check] const uint8_t* data, size_t size, [out] uint64_t* total)"""
    def ask(self, question: str | _Readable | None, /) -> int:
        """public int64_t ask([in, string] const char* question)"""
    def descend(self, depth: int, /) -> int:
        """public int64_t descend(int32_t depth)"""
    def deeper(self, depth: int, /) -> int:
        """int64_t deeper(int32_t depth)"""
    def meet(self, how_many: int, /) -> int:
        """public uint32_t meet(uint32_t how_many)"""
    def hold(self, /) -> None:
        """public void hold(void)"""
    def answered(self, /) -> int:
        """public uint32_t answered(void)"""
    def crash(self, /) -> None:
        """public void crash(void)"""
    def fill(self, mebibytes: int, total: _Writable | None, /) -> int:
        """public int fill(size_t mebibytes, [out] uint64_t* total)"""

class Ocalls(Protocol):
    def answer(self, question: str | None, /) -> int:
        """int64_t answer([in, string] const char* question)"""
    def go_down(self, depth: int, /) -> int:
        """int64_t go_down(int32_t depth) allow(deeper)"""
    def read_name(self, name: memoryview | None, size: int, /) -> int:
        """size_t read_name([out, size=size] char* name, size_t size)"""
    def wait(self, /) -> None:
        """void wait(void)"""
