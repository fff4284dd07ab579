# SPDX-License-Identifier: Apache-2.0
"""The driver's ioctl that fills an enclave: ADD_PAGES (sgx/ioctl.c)."""

import errno
from concurrent.futures import Future, ThreadPoolExecutor

from ensconce.errors import Fault
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfo, SecInfoFlags, page_type
from ensconce.isa.ssa import Vector
from ensconce.machine import uapi
from ensconce.machine.driver_build import check_range
from ensconce.machine.driver_enclave import READ, WRITE, DriverEnclave, refusal
from ensconce.machine.encls_build import eadd_lazy, eadd_pages
from ensconce.machine.epc import PERMISSIONS, TYPE
from ensconce.machine.user_memory import copy_from_user, copy_to_file, untouched

__all__ = ["add_pages"]

_CHUNK = 256
_ZEROS = bytes(_CHUNK * PAGE_SIZE)
_R, _W = int(SecInfoFlags.R), int(SecInfoFlags.W)


def add_pages(enclave: DriverEnclave, request: uapi.EnclaveAddPages) -> tuple[int, OSError | None]:
    """SGX_IOC_ENCLAVE_ADD_PAGES: return the bytes added, and what stopped it before the end.

    Raises OSError EINVAL, EFAULT where nothing was tried. Stops with EFAULT, EBUSY (a page is
    there already), ENOMEM, EIO (EADD refused).
    """
    if request.src % PAGE_SIZE:
        raise refusal(errno.EINVAL, "src is not aligned to a page")
    check_range(enclave, request.offset, request.length)
    secinfo = SecInfo.parse(copy_from_user(request.secinfo, SecInfo.SIZE))
    _check_secinfo(secinfo)
    return _Addition(enclave, request, secinfo).run()


def _check_secinfo(secinfo: SecInfo) -> None:
    """Check SECINFO as the kernel does before EADD. Raises OSError EINVAL."""
    flags = int(secinfo.flags)
    kind = page_type(flags)
    wrong = (
        kind not in (PageType.REG, PageType.TCS)
        or (flags & _W and not flags & _R)
        or (kind == PageType.TCS and flags & PERMISSIONS)
        or flags & ~(PERMISSIONS | TYPE)
        or secinfo.reserved_nonzero()
    )
    if wrong:
        raise refusal(errno.EINVAL, f"SECINFO.FLAGS {flags:#x}")


class _Addition:
    """One request: pages are copied piece by piece, each while the piece before is measured."""

    def __init__(
        self, enclave: DriverEnclave, request: uapi.EnclaveAddPages, secinfo: SecInfo
    ) -> None:
        self._enclave = enclave
        self._request = request
        self._secinfo = secinfo
        self._measure = bool(request.flags & uapi.PAGE_MEASURE)
        self._regular = page_type(int(secinfo.flags)) == PageType.REG
        self._first = request.offset // PAGE_SIZE
        self._count = request.length // PAGE_SIZE
        self._ahead: tuple[int, int, Future[int]] | None = None

    def run(self) -> tuple[int, OSError | None]:
        """Add the pages; return the bytes added and what stopped it."""
        done = 0
        with ThreadPoolExecutor(1, "add-pages") as pool:
            try:
                while done < self._count:
                    done += self._step(done, pool)
            except OSError as error:
                return done * PAGE_SIZE, error
            finally:
                self._drop_ahead()
        return done * PAGE_SIZE, None

    def _step(self, done: int, pool: ThreadPoolExecutor) -> int:
        """Add the next pages and return how many they were."""
        page = self._first + done
        count = self._absent(done, self._count)
        if not count:
            raise refusal(errno.EBUSY, f"the enclave has a page at {page * PAGE_SIZE:#x}")
        src = self._request.src + done * PAGE_SIZE
        if self._regular and not self._measure and untouched(src, count * PAGE_SIZE):
            return self._add_lazily(page, count)
        count = min(count, _CHUNK if self._regular else 1)
        self._enclave.make_room(count)
        copied = self._copied(done, count)
        if not copied:
            raise refusal(errno.EFAULT, f"the source {src:#x} can't be read")
        memory, alias = self._enclave.secs.memory, self._enclave.secs.alias
        start, end = page * PAGE_SIZE, (page + copied) * PAGE_SIZE
        if self._regular and not self._measure and bytes(alias[start:end]) == _ZEROS[: end - start]:
            memory.discard(start, end - start)
            return self._add_lazily(page, copied)
        if self._regular and copied == count:
            self._look_ahead(done + copied, count, pool)
        self._eadd(page, copied)
        return copied

    def _absent(self, done: int, end: int) -> int:
        """Return how many pages from one on the enclave does not have yet."""
        first = self._first + done
        with self._enclave.cpu.lock:
            spans = self._enclave.maximum.spans(first, self._first + end)
        start, stop, known = spans[0]
        return stop - start if known is None else 0

    # --- copying

    def _copy(self, done: int, count: int) -> int:
        """Copy pages to where they will be; return how many could be read."""
        src = self._request.src + done * PAGE_SIZE
        offset = self._request.offset + done * PAGE_SIZE
        file = self._enclave.secs.memory.fd
        copied = copy_to_file(src, count * PAGE_SIZE, file, offset) // PAGE_SIZE
        if copied < count:
            offset += copied * PAGE_SIZE
            self._enclave.secs.memory.discard(offset, (count - copied) * PAGE_SIZE)
        return copied

    def _copied(self, done: int, count: int) -> int:
        """Copy pages, or wait until they are; return how many could be read."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[:2] == (done, count):
            return ahead[2].result()
        return self._copy(done, count)

    def _look_ahead(self, done: int, count: int, pool: ThreadPoolExecutor) -> None:
        """Begin to copy the next pages, if there is room for both pieces without evicting."""
        most = min(self._count - done, _CHUNK)
        if most < 1 or self._enclave.cpu.epc.free < 2 * (count + most):
            return
        following = min(self._absent(done, self._count), most)
        if following:
            self._ahead = (done, following, pool.submit(self._copy, done, following))

    def _drop_ahead(self) -> None:
        """Take back what was copied ahead and not added."""
        if self._ahead is not None:
            done, count, future = self._ahead
            future.exception()
            offset = self._request.offset + done * PAGE_SIZE
            self._enclave.secs.memory.discard(offset, count * PAGE_SIZE)

    # --- adding

    def _add_lazily(self, page: int, count: int) -> int:
        """Add zero pages that take EPC when they are touched; return how many."""
        enclave = self._enclave
        address = enclave.secs.base + page * PAGE_SIZE
        try:
            eadd_lazy(enclave.cpu, enclave.secs, address, self._secinfo, count)
        except Fault as fault:
            raise refusal(errno.EIO, str(fault)) from fault
        with enclave.cpu.lock:
            enclave.maximum.put(page, page + count, int(self._secinfo.flags) & PERMISSIONS)
        enclave.statistics.added_lazily += count
        return count

    def _eadd(self, page: int, count: int) -> None:
        """EADD, and EEXTEND, pages whose contents are in place."""
        enclave = self._enclave
        cpu, secs = enclave.cpu, enclave.secs
        address = secs.base + page * PAGE_SIZE
        while True:
            enclave.make_room(count)
            try:
                eadd_pages(cpu, secs, address, self._secinfo, count, extend=self._measure)
                break
            except Fault as fault:
                if fault.code is Vector.PF and secs.valid and cpu.epc.free < count:
                    continue  # another enclave took the room
                secs.memory.discard(page * PAGE_SIZE, count * PAGE_SIZE)
                raise refusal(errno.EIO, str(fault)) from fault
        most = int(self._secinfo.flags) & PERMISSIONS if self._regular else READ | WRITE
        with cpu.lock:
            enclave.maximum.put(page, page + count, most)
            enclave.statistics.added += count
            enclave.entered(page, page + count)
