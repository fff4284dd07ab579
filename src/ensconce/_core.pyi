# SPDX-License-Identifier: Apache-2.0
"""The native part of the emulated processor: enclave memory, entry, exit and asynchronous exit.

No SGX policy is here. Addresses and offsets are bytes; vectors and error codes are the
processor's. Every constructor of `Enclave` and `Call` raises `ensconce.errors.DeviceError` on a
machine that cannot run enclaves (no FSGSBASE); importing the module works everywhere.
"""

from collections.abc import Callable
from typing import final

from typing_extensions import Buffer

def reserve(size: int, /) -> int:
    """Reserve `size` bytes, a power of two, naturally aligned and inaccessible; return the base."""

def release(base: int, size: int, /) -> None:
    """Give a reservation back."""

def capabilities() -> dict[str, bool]:
    """Return `fsgsbase`, `syscall_user_dispatch` and `cpuid_faulting` of processor and kernel."""

def xcr0() -> int:
    """Return XCR0, 0 where the processor has no XSAVE."""

def cpuid(leaf: int, subleaf: int, /) -> tuple[int, int, int, int]:
    """Return EAX, EBX, ECX and EDX of CPUID as the host has it."""

def view(address: int, length: int, /) -> memoryview:
    """Return raw process memory, writable; a bad address ends the process."""

def map_device(fd: int, address: int, length: int, protection: int, offset: int, /) -> None:
    """Map pages of a device, shared, over a reservation."""

def vdso_enter_address() -> int:
    """Return the address of the kernel's `__vdso_sgx_enter_enclave`, 0 where it has none."""

def emulated_enter_address() -> int:
    """Return the address of the emulated processor's function of the same ABI."""

def rewrites_enclu() -> bool:
    """Return whether an ENCLU that was executed once is rewritten on this host.

    Where #UD takes far longer than #GP (some hypervisors), its first byte becomes that of HLT,
    which the core takes for ENCLU: an enclave that reads its own code there sees it.
    """

def fill_measurement(
    out: bytearray | memoryview, offset: int, flags: int, pages: Buffer | None, count: int
) -> int:
    """Write the records of `count` consecutive pages into `out` and return their length in bytes.

    Each is an EADD at `offset` with SECINFO.FLAGS `flags`, 64 bytes; with `pages`, which then
    holds `count` * 4096 bytes, sixteen EEXTENDs and their data follow, 5184 bytes in all.
    """

@final
class Memory:
    """The memory of one enclave, mapped at ELRANGE and, always writable, as an alias.

    `base` and `size` are those of `reserve()`. Nothing is accessible at ELRANGE until `protect`.
    The memory is not inherited by forked children.
    """

    def __new__(cls, base: int, size: int) -> Memory: ...
    @property
    def base(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def fd(self) -> int: ...
    @property
    def alias(self) -> int: ...
    def protect(self, offset: int, length: int, protection: int, /) -> None:
        """Set what the enclave may do with its pages, as PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4."""

    def alias_view(self, offset: int, length: int, /) -> memoryview:
        """Return bytes as the processor has them; after `close` they are all zero."""

    def discard(self, offset: int, length: int, /) -> None:
        """Give pages back to the host; they read as zero."""

    def close(self) -> None:
        """Free the memory; ELRANGE stays reserved until `release()`."""

@final
class Frame:
    """The registers of an enclave thread that executed ENCLU, while its leaf is served."""

    rax: int
    rcx: int
    rdx: int
    rbx: int
    rsp: int
    rbp: int
    rsi: int
    rdi: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rflags: int
    rip: int
    @property
    def tcs(self) -> int:
        """The linear address of the thread's TCS."""

    @property
    def enclave(self) -> Enclave: ...

@final
class Enclave:
    """What the core must know of one enclave to run its threads.

    `leaf` serves every ENCLU leaf but EEXIT, by EAX: it returns None when the leaf is done (RIP
    then goes to the next instruction) or the exception (vector, error_code, address) that the
    leaf raises. `fault` is asked about each #PF, with (address, error_code, function), where
    function is 2 for one that EENTER itself met and 3 for all others, after the AEX. True: the
    page is there now, try again. False: deliver it. A number: deliver it with that error code.
    An exception from either makes `Call.enter` raise it, after an AEX.
    """

    def __new__(
        cls,
        memory: Memory,
        ssa_frame_size: int,
        misc_select: int,
        attributes: int,
        xfrm: int,
        leaf: Callable[[Frame], tuple[int, int, int] | None],
        fault: Callable[[int, int, int], bool | int],
    ) -> Enclave: ...
    @property
    def epoch(self) -> int: ...
    @property
    def memory(self) -> Memory: ...
    def set_tcs(
        self,
        offset: int,
        /,
        *,
        flags: int,
        ossa: int,
        nssa: int,
        cssa: int,
        oentry: int,
        ofsbase: int,
        ogsbase: int,
    ) -> None:
        """Add a TCS, or replace one that is idle; EnclaveError while a thread uses it."""

    def block_tcs(self, offset: int, blocked: bool, /) -> None:
        """Make entries by a TCS raise #PF, or not."""

    def remove_tcs(self, offset: int, /) -> None:
        """Forget an idle TCS; EnclaveError while a thread uses it."""

    def tcs(self, offset: int, /) -> tuple[int, bool, int]:
        """Return CSSA, whether a thread uses the TCS, and the epoch of its last entry."""

    def set_cssa(self, offset: int, cssa: int, /) -> None:
        """Set the current SSA frame of a TCS."""

    def advance_epoch(self) -> int:
        """Start a new epoch and return its number (ETRACK)."""

    def inside_before(self, epoch: int, /) -> int:
        """Count threads that run in the enclave since before an epoch; not those in a callback."""

    def kick(self) -> None:
        """Force an AEX in every thread that runs in the enclave, and wait until each has left."""

    def enable(self, on: bool, /) -> None:
        """Allow entries (after EINIT), or make them raise #GP."""

    def close(self) -> None:
        """Forget the enclave; EnclaveError while a thread is inside or in one of its callbacks."""

@final
class Call:
    """A chain of entries on one untrusted stack; one per host thread inside an enclave.

    `enter` is the address of a function of the vDSO's ABI.
    """

    def __new__(cls, enter: int, stack_size: int = 1 << 20) -> Call: ...
    def enter(self, function: int, tcs: int, rdi: int = 0, rsi: int = 0, rsp: int = 0) -> int:
        """Execute EENTER (2) or ERESUME (3) and return 0 for EEXIT, 1 for an exception.

        `tcs` is a linear address; registers are taken modulo 2**64. `rsp` 0 is the top of the
        stack; to re-enter below what the enclave has there, or to resume, give `self.rsp`.
        Host signals and page faults that the fault callback mends do not end the entry.

        Raises what a callback or a signal handler raised, with the enclave's state in its SSA;
        ValueError for a bad `rsp` or `function`, EnclaveError when this Call is in use already,
        EnclaveLost in a fork, OSError for another refusal by the enter function.
        """

    @property
    def rdi(self) -> int: ...
    @property
    def rsi(self) -> int: ...
    @property
    def rdx(self) -> int: ...
    @property
    def r8(self) -> int: ...
    @property
    def r9(self) -> int: ...
    @property
    def rsp(self) -> int:
        """The untrusted stack pointer as the enclave left it, or as it was saved at entry."""

    @property
    def function(self) -> int:
        """The leaf that ended the entry: 4 EEXIT; 2 or 3 which one met an exception.

        3 also when the exception was raised by the enclave's own code. 4 with a result of 1: the
        enclave left to `address`, which is not where it was entered from.
        """

    @property
    def vector(self) -> int: ...
    @property
    def error_code(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def stack(self) -> tuple[int, int]:
        """The lowest address of the untrusted stack and the one after its last."""
