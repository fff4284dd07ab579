# SPDX-License-Identifier: Apache-2.0
"""The layout table: heap, threads and other memory behind an enclave's segments.

A thread is guard | stack | guard | TCS | SSA | guard | thread data. The first is the utility
thread; then come those that always stay, those that are measured and removed again where memory
is dynamic, and those that are only added at run time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ensconce.errors import ConfigError
from ensconce.image.config import EnclaveConfig
from ensconce.image.elf import page_end
from ensconce.image.generation import Bookkeeping, Generation
from ensconce.image.metadata import MAX_ENCLAVE_SIZE, LayoutEntry, LayoutGroup, LayoutId
from ensconce.image.metadata import PageAttributes as Page
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfoFlags, secinfo_flags

__all__ = [
    "RESERVE_GUARDS",
    "SSA_FRAMES",
    "TCS_TEMPLATE_SIZE",
    "Layout",
    "LayoutItem",
    "plain_layout",
]

LayoutItem = LayoutEntry | LayoutGroup

SSA_FRAMES = 2
TCS_TEMPLATE_SIZE = 72

RESERVE_GUARDS = 2 * 0x8000

_GUARD_PAGES = 16
_STACK_FILL = 0xCCCCCCCC
_DYNAMIC_IDS = 10
_MAX_PAGES = (1 << 32) - 1

_RW = secinfo_flags(PageType.REG, SecInfoFlags.R | SecInfoFlags.W)
_RWX = _RW | SecInfoFlags.X
_TCS = secinfo_flags(PageType.TCS)
_MEASURED = Page.EADD | Page.EEXTEND
_INITIAL = Page.EADD | Page.POST_REMOVE | Page.POST_ADD
_GUARD = LayoutEntry(id=LayoutId.GUARD, page_count=_GUARD_PAGES)

# the sizes of what the runtime's memory manager records of a region, and its allocator's rules
_REGION_RECORD = 72
_BITMAP_RECORD = 24
_FIRST_RESERVE = 0x10000
_RESERVE_RECORD = 32


@dataclass(slots=True)
class Layout:
    """A layout table that is being built for an enclave.

    `segment_pages` are the sizes of the loaded segments, `tls_pages` that of the thread-local
    data's template, `tcs_template` the place of the TCS's contents in the metadata. `dynamic`
    says whether the table is for platforms that can add memory at run time.
    """

    config: EnclaveConfig
    generation: Generation
    image_size: int
    segment_pages: Sequence[int]
    tls_pages: int
    ssa_frame_size: int
    tcs_template: int
    dynamic: bool
    overhead: int = 0

    def build(self) -> tuple[tuple[LayoutItem, ...], int, int]:
        """Return the table, the size of what it describes, and the enclave's size."""
        items: list[LayoutItem] = [*self._heap(), *self._threads(), *self._reserved()]
        if self.dynamic:
            items.append(self._user_region())
        items, end = _placed(items, self.image_size)
        size = 1 << (end - 1).bit_length()
        if size > MAX_ENCLAVE_SIZE:
            raise ConfigError(f"the configuration asks for an enclave of {end:#x} bytes")
        items = self._filled(items, end, size)
        if len(items) > self.generation.slots:
            raise ConfigError("the configuration needs more layout entries than the runtime has")
        return tuple(items), end, size

    def reserved_init(self, items: Sequence[LayoutItem], end: int, size: int) -> int:
        """Return the reserved memory that the runtime is told of."""
        last = [item for item in items if isinstance(item, LayoutEntry)][-1]
        grown = self.generation.pads_reserved and end < size
        if grown and last.id in (LayoutId.RSRV_MIN, LayoutId.RSRV_INIT):
            return self.config.reserved_init + size - end
        return self.config.reserved_init

    def _filled(self, items: list[LayoutItem], end: int, size: int) -> list[LayoutItem]:
        """Return the table with what fills the enclave up to its size."""
        pages = (size - end) // PAGE_SIZE
        if not pages:
            return items
        last = items[-1]
        reserved = (LayoutId.RSRV_INIT, LayoutId.RSRV_MAX)
        if self.generation.pads_reserved and isinstance(last, LayoutEntry):
            smallest = last.id == LayoutId.RSRV_MIN and last.page_count > 0
            if last.id in reserved or smallest:
                return [*items[:-1], replace(last, page_count=last.page_count + pages)]
        return [*items, LayoutEntry(id=LayoutId.GUARD, page_count=pages, rva=end)]

    def _heap(self) -> list[LayoutItem]:
        config = self.config
        low, initial, high = config.heap_min_size, config.heap_init, config.heap_max_size
        items: list[LayoutItem] = [_entry(LayoutId.HEAP_MIN, low, Page.EADD)]
        if initial > low:
            items.append(_entry(LayoutId.HEAP_INIT, initial - low, _INITIAL))
        if high > initial:
            items.append(_entry(LayoutId.HEAP_MAX, high - initial, Page.POST_ADD))
        return items

    def _reserved(self) -> list[LayoutItem]:
        config = self.config
        low, initial = config.reserved_mem_min_size, config.reserved_init
        high = config.reserved_mem_max_size
        if not high:
            return []
        flags = _RWX if config.reserved_mem_executable else _RW
        items: list[LayoutItem] = [_entry(LayoutId.RSRV_MIN, low, Page.EADD, flags)]
        if initial > low:
            items.append(_entry(LayoutId.RSRV_INIT, initial - low, _INITIAL, flags))
        if high > initial:
            items.append(_entry(LayoutId.RSRV_MAX, high - initial, Page.POST_ADD))
        return items

    def _thread(self) -> list[LayoutEntry]:
        """Return one thread's entries."""
        config = self.config
        growing = config.stack_max_size - config.stack_min
        stack = [_entry(LayoutId.STACK_MIN, config.stack_min, _MEASURED, fill=_STACK_FILL)]
        if growing:
            attributes = _MEASURED | Page.GROW_DOWN
            stack.insert(0, _entry(LayoutId.STACK_MAX, growing, attributes, fill=_STACK_FILL))
        tcs = LayoutEntry(
            id=LayoutId.TCS,
            attributes=_MEASURED,
            page_count=1,
            content_size=TCS_TEMPLATE_SIZE,
            content_offset=self.tcs_template,
            si_flags=_TCS,
        )
        ssa = _entry(LayoutId.SSA, self.ssa_frame_size * SSA_FRAMES * PAGE_SIZE, _MEASURED)
        data = _entry(LayoutId.TD, (1 + self.tls_pages) * PAGE_SIZE, _MEASURED)
        return [_GUARD, *stack, _GUARD, tcs, ssa, _GUARD, data]

    def _threads(self) -> list[LayoutItem]:
        config, thread = self.config, self._thread()
        pool = config.thread_pool
        removed, added = config.tcs_num - 1 - pool, config.threads_max - 1 - pool
        items: list[LayoutItem] = []
        if self.generation.pool_thread:
            items += (_growing(entry) for entry in thread)
            items += _repeated(thread, pool)
        else:
            items += thread
            items += _group(thread, pool)
        items += _repeated([_with(entry, Page.EREMOVE) for entry in thread], removed)
        if added > 0:
            items += (_added(entry) for entry in thread)
            items.append(LayoutGroup(LayoutId.THREAD_GROUP_DYN, len(thread), added))
        return items

    def _user_region(self) -> LayoutEntry:
        """Return the room for memory that the enclave asks for, and for its bookkeeping."""
        user = self.config.user_region_size
        if self.generation.bookkeeping is Bookkeeping.EXACT:
            records = page_end(self._records() + _FIRST_RESERVE + RESERVE_GUARDS)
            extra = user + page_end(user >> 15) if user else 0
            return _entry(LayoutId.USER_REGION, records + extra, Page.POST_ADD)
        records = self._records()
        if user:
            records += page_end(user >> 15) or PAGE_SIZE
        step = _FIRST_RESERVE
        self.overhead = (records + _RESERVE_RECORD + step - 1) // step * step
        size = user + self.overhead + RESERVE_GUARDS
        return _entry(LayoutId.USER_REGION, size, Page.POST_ADD)

    def _records(self) -> int:
        """Return the bytes that the runtime's records of all regions take."""
        config = self.config
        region = self._allocated(_REGION_RECORD)
        pool = config.thread_pool
        removed, added = config.tcs_num - 1 - pool, config.threads_max - 1 - pool
        total = self._steps(config.heap_min_size, config.heap_init, config.heap_max_size)
        low, high = config.reserved_mem_min_size, config.reserved_mem_max_size
        total += self._steps(low, config.reserved_init, high)
        thread = self._thread()
        kept = sum(
            region if entry.id == LayoutId.GUARD else self._tracked(entry.size) for entry in thread
        )
        total += kept * (1 + pool) + region * len(thread) * (1 + max(removed, 0))
        if added > 0:
            total += kept * (added + 1)
        total += sum(self._tracked(pages * PAGE_SIZE) for pages in self.segment_pages)
        return total + (region if self.generation.bookkeeping is Bookkeeping.ALIGNED else 0)

    def _steps(self, low: int, initial: int, high: int) -> int:
        """Return the bytes that records of memory of three sizes take."""
        total = self._tracked(low)
        if initial > low:
            total += self._tracked(initial - low)
        if high > initial:
            total += self._tracked(high - initial)
        return total

    def _tracked(self, size: int) -> int:
        """Return the bytes that the record and the page bitmap of a region take."""
        bitmap = (size // PAGE_SIZE + 7) // 8
        parts = (_REGION_RECORD, _BITMAP_RECORD, bitmap)
        return sum(self._allocated(part) for part in parts)

    def _allocated(self, size: int) -> int:
        """Return the bytes that the runtime's allocator takes for a block."""
        if self.generation.bookkeeping is Bookkeeping.EXACT:
            return size
        return max((size + 8 + 7) // 8 * 8, 16)


def plain_layout(
    items: Sequence[LayoutItem], config: EnclaveConfig, generation: Generation
) -> tuple[LayoutItem, ...]:
    """Return the table for platforms without EDMM, which measures to the same MRENCLAVE.

    All static threads become repetitions of the utility thread; what is only added at run time
    goes, but what keeps its place in the enclave becomes a hole.
    """
    if not generation.rebuilds_plain and config.threads_max == config.thread_pool + 1:
        return tuple(items)
    start = next(i for i, item in enumerate(items) if item.id == LayoutId.GUARD)
    end = next(i for i, item in enumerate(items) if item.id == LayoutId.TD) + 1
    thread = [item for item in items[start:end] if isinstance(item, LayoutEntry)]
    rest = list(items[end:])
    reserved = [item for item in rest if item.id in _RESERVED]
    kept: list[LayoutItem] = [*items[:end], *rest]
    if rest and rest[0].id != LayoutId.RSRV_MIN:
        step = sum(entry.size for entry in thread)
        groups = [LayoutGroup(LayoutId.THREAD_GROUP, len(thread), config.tcs_num - 1, step)]
        if not generation.rebuilds_plain and config.tcs_num == 1:
            groups = []
        kept = [*items[:end], *groups, *reserved]
    return tuple(_static(item) for item in kept)


_RESERVED = (LayoutId.RSRV_MIN, LayoutId.RSRV_INIT, LayoutId.RSRV_MAX)
_HOLES = (LayoutId.HEAP_MAX, LayoutId.RSRV_MAX)
_NOT_ADDED = (*_HOLES, LayoutId.HEAP_INIT, LayoutId.RSRV_INIT, LayoutId.STACK_MAX)


def _static(item: LayoutItem) -> LayoutItem:
    """Return an item without what only platforms with EDMM do."""
    if isinstance(item, LayoutGroup) or item.id not in _NOT_ADDED:
        return item
    flags = 0 if item.id in _HOLES else item.si_flags
    return replace(item, attributes=item.attributes & ~Page.POST_ADD, si_flags=flags)


def _entry(
    kind: LayoutId, size: int, attributes: Page, flags: int = _RW, *, fill: int = 0
) -> LayoutEntry:
    pages = size // PAGE_SIZE
    if pages > _MAX_PAGES:
        raise ConfigError(f"the configuration asks for {kind.name} of {size:#x} bytes")
    return LayoutEntry(
        id=kind, attributes=attributes, page_count=pages, content_size=fill, si_flags=flags
    )


def _with(entry: LayoutEntry, attributes: Page) -> LayoutEntry:
    if entry.id == LayoutId.GUARD:
        return entry
    return replace(entry, attributes=entry.attributes | attributes)


def _growing(entry: LayoutEntry) -> LayoutEntry:
    if entry.id != LayoutId.STACK_MAX:
        return entry
    return _with(entry, Page.POST_ADD | Page.POST_REMOVE)


def _added(entry: LayoutEntry) -> LayoutEntry:
    """Return a thread's entry as one that is only added at run time."""
    if entry.id == LayoutId.GUARD:
        return entry
    grows = entry.id == LayoutId.STACK_MAX
    attributes = Page.POST_ADD | (Page.GROW_DOWN if grows else Page.DYN_THREAD)
    return replace(entry, id=entry.id + _DYNAMIC_IDS, attributes=attributes)


def _repeated(thread: Sequence[LayoutEntry], times: int) -> list[LayoutItem]:
    """Return a thread and a group for its repetitions; nothing for no thread."""
    return [*thread, *_group(thread, times - 1)] if times > 0 else []


def _group(thread: Sequence[LayoutEntry], times: int) -> list[LayoutItem]:
    return [LayoutGroup(LayoutId.THREAD_GROUP, len(thread), times)] if times > 0 else []


def _placed(items: Sequence[LayoutItem], start: int) -> tuple[list[LayoutItem], int]:
    """Return the items with their offsets and steps, and where they end."""
    placed: list[LayoutItem] = []
    for index, item in enumerate(items):
        if isinstance(item, LayoutEntry):
            placed.append(replace(item, rva=start))
            start += item.size
            continue
        before = items[index - item.entry_count : index]
        step = sum(entry.size for entry in before if isinstance(entry, LayoutEntry))
        placed.append(replace(item, load_step=step))
        start += item.load_times * step
    return placed, start
