# SPDX-License-Identifier: Apache-2.0
"""How the vendor's SDK releases differ in what their signing tools write.

An enclave's trusted runtime and its metadata come from one release and must agree: the runtime
reads `g_global_data`, which the metadata patches. Its size, and from 2.9.1 on the release number
in its first word, tell which release an unsigned file was linked with.
"""

import re
from dataclasses import dataclass, replace
from enum import Enum

from ensconce.errors import FormatError
from ensconce.image.enclave_elf import EnclaveElf
from ensconce.isa.attributes import Xfrm
from ensconce.isa.record import BytesLike

__all__ = ["GENERATIONS", "Bookkeeping", "Generation", "generation_of"]


class Bookkeeping(Enum):
    """How the room for the runtime's own records of dynamic memory is counted."""

    NONE = 0
    EXACT = 1
    ALIGNED = 2


@dataclass(frozen=True, slots=True)
class Generation:
    """What the signing tool of one or several SDK releases writes; `sdk` is the first of them.

    `words` are the fields of `g_global_data` before the thread data, `thread` those of the
    thread data up to tls_array, `slots` the rows of the layout table in it, `tail` the fields
    after that. `plain_minor` is the minor version of the copy for platforms without EDMM;
    releases before 2.2 made that copy's layout anew only for threads added at run time
    (`rebuilds_plain`).
    """

    sdk: tuple[int, int, int]
    version: tuple[int, int]
    words: tuple[str, ...]
    thread: tuple[str, ...]
    thread_size: int
    slots: int
    tail: tuple[str, ...]
    xfrm: Xfrm
    room: int = 0x5000
    plain_minor: int = 4
    directories: int = 2
    retired_copy: bool = True
    selects_copies: bool = False
    pool_thread: bool = True
    rebuilds_plain: bool = True
    pads_reserved: bool = False
    bookkeeping: Bookkeeping = Bookkeeping.NONE
    masks_misc_select: bool = False
    elrange_defaults_to_size: bool = False
    xsave: tuple[tuple[Xfrm, int], ...] = ()

    @property
    def global_data_size(self) -> int:
        """The size of `g_global_data` in bytes."""
        return self.layout_offset + 8 + 32 * self.slots + 8 * len(self.tail)

    @property
    def layout_offset(self) -> int:
        """Where in `g_global_data` the count of layout entries lies, eight bytes before them."""
        return 8 * len(self.words) + self.thread_size + _TCS_TEMPLATE

    @property
    def smallest_stack(self) -> int:
        """The least StackMinSize, and its default, in bytes."""
        return 0x1000 if self.sdk < (2, 4, 0) else 0x2000

    @property
    def fixed_ssa(self) -> bool:
        """Whether an SSA frame is one page whatever XFRM allows."""
        return self.sdk < (2, 18, 0)


_TCS_TEMPLATE = 72
_XSAVE = (
    (Xfrm.LEGACY, 576),
    (Xfrm.SSE | Xfrm.AVX, 832),
    (Xfrm.BNDREGS | Xfrm.BNDCSR, 1088),
    (Xfrm.SSE | Xfrm.AVX | Xfrm.AVX512, 2688),
)
_XSAVE_2_0 = (*_XSAVE[:2], (Xfrm.BNDREGS | Xfrm.BNDCSR, 912), (_XSAVE[3][0], 2512))
_XSAVE_PKRU = (*_XSAVE, (Xfrm.PKRU, 2752))
_XSAVE_AMX = (*_XSAVE_PKRU, (Xfrm.TILECFG | Xfrm.TILEDATA, 11008))

_XFRM_AVX = Xfrm.LEGACY | Xfrm.AVX
_XFRM_AVX512 = _XFRM_AVX | Xfrm.AVX512
_XFRM_PKRU = _XFRM_AVX512 | Xfrm.PKRU
_XFRM_AMX = _XFRM_PKRU | Xfrm.TILECFG | Xfrm.TILEDATA

_THREAD_HEAD = (
    *("self_addr", "last_sp", "stack_base_addr", "stack_limit_addr", "first_ssa_gpr"),
    *("stack_guard", "flags", "xsave_size", "last_error"),
)
_THREAD = (*_THREAD_HEAD, "m_next", "tls_addr", "tls_array")
_THREAD_AEX = (
    *_THREAD_HEAD,
    *("aex_mitigation_list", "aex_notify_flag", "first_ssa_xsave"),
    *("m_next", "tls_addr", "tls_array"),
)

_HEAP = ("enclave_size", "heap_offset", "heap_size")
_RSRV = (*_HEAP, "rsrv_offset", "rsrv_size")
_EXECUTABLE = (*_RSRV, "rsrv_executable", "thread_policy", "tcs_max_num")
_SDK = ("sdk_version", *_EXECUTABLE)
_TCS_NUM = (*_SDK, "tcs_num")
_ELRANGE = ("enclave_image_address", "elrange_start_address", "elrange_size")
_EDMM = (*_ELRANGE, "edmm_bk_overhead")


_FIRST = Generation(
    sdk=(2, 0, 0),
    version=(2, 1),
    words=(*_HEAP, "thread_policy"),
    thread=_THREAD,
    thread_size=160,
    slots=38,
    tail=(),
    xfrm=_XFRM_AVX,
    room=0x3000,
    retired_copy=False,
    pool_thread=False,
    rebuilds_plain=False,
    xsave=_XSAVE_2_0,
)


def _generations() -> tuple[Generation, ...]:
    """Return the generations, oldest first, each from the one before it."""
    made = [_FIRST]

    def then(sdk: tuple[int, int, int], **changes: object) -> None:
        made.append(replace(made[-1], sdk=sdk, **changes))  # type: ignore[arg-type]  # its fields

    then((2, 1, 0), version=(2, 2), room=0x5000, retired_copy=True, xsave=_XSAVE)
    then((2, 1, 3), version=(2, 3), pool_thread=True)
    then((2, 2, 0), rebuilds_plain=True)
    then((2, 4, 0), version=(2, 4))
    then((2, 5, 0), xfrm=_XFRM_AVX512)
    then((2, 6, 0), words=(*_RSRV, "thread_policy"), slots=42, pads_reserved=True)
    then((2, 8, 0), words=_EXECUTABLE)
    then((2, 9, 1), words=_SDK)
    then((2, 14, 0), tail=_ELRANGE, pads_reserved=False, elrange_defaults_to_size=True)
    then((2, 16, 0), words=_TCS_NUM, xfrm=_XFRM_PKRU, xsave=_XSAVE_PKRU)
    then(
        (2, 18, 0),
        version=(3, 0),
        xfrm=_XFRM_AMX,
        xsave=_XSAVE_AMX,
        retired_copy=False,
        selects_copies=True,
        bookkeeping=Bookkeeping.EXACT,
    )
    then((2, 18, 1), slots=43)
    then(
        (2, 20, 0),
        thread=_THREAD_AEX,
        thread_size=192,
        tail=_EDMM,
        bookkeeping=Bookkeeping.ALIGNED,
    )
    then((2, 22, 0), version=(3, 1), masks_misc_select=True)
    then((2, 24, 0), version=(3, 2), plain_minor=5, directories=4, room=0x6000)
    then((2, 25, 0), tail=(*_EDMM, "fips_on"), elrange_defaults_to_size=False)
    then((2, 26, 0), version=(3, 3))
    return tuple(made)


GENERATIONS = _generations()

_RELEASE = re.compile(rb"SGX_T[A-Z]{2,12}_VERSION_(\d{1,3})\.(\d{1,3})\.(\d{1,6})")
_LAST_OF_2_1 = 3
_FIRST_WITH_VERSION = (2, 9, 1)


def generation_of(file: EnclaveElf) -> Generation:
    """Return the generation that an enclave's trusted runtime belongs to."""
    symbol = next((each for each in file.elf.dynamic_symbols if each.name == "g_global_data"), None)
    if symbol is None or not symbol.section:
        raise file.error("exports no g_global_data; link it with the SDK's trusted runtime")
    offset = file.loaded(symbol.value, symbol.size)
    fitting = [each for each in GENERATIONS if each.global_data_size == symbol.size]
    if not fitting:
        raise _unknown(file, symbol.size)
    release = _release(file.elf.data)
    if fitting[-1].sdk >= _FIRST_WITH_VERSION:
        word = int.from_bytes(file.elf.content(offset, 8, "g_global_data"), "little")
        release = (word >> 32, word >> 16 & 0xFFFF, word & 0xFFFF)
        if release < _FIRST_WITH_VERSION:
            raise _unknown(file, symbol.size)
    known = [each for each in fitting if release is None or each.sdk <= release]
    return (known or fitting[:1])[-1]


def _unknown(file: EnclaveElf, size: int) -> FormatError:
    """Return the error for a runtime of no release that is known here."""
    return file.error(
        f"has a g_global_data of {size} bytes, which no SDK from 2.0 on writes; "
        "rebuild it, or re-sign it without a configuration"
    )


def _release(data: BytesLike) -> tuple[int, int, int] | None:
    """Return the newest release that the trusted libraries' version strings name."""
    found = [(int(match[1]), int(match[2]), int(match[3])) for match in _RELEASE.finditer(data)]
    if not found:
        return None
    release = max(found)
    # 2.1, 2.1.1 and 2.1.2 called themselves 2.1.42002, 2.1.101 and 2.1.102
    return (2, 1, 0) if release[:2] == (2, 1) and release[2] > _LAST_OF_2_1 else release
