# SPDX-License-Identifier: Apache-2.0
"""The Python host API, one thing after the other. Run it with `python host.py`.

Each function below shows one topic; README.md explains them in the same order.
"""

import array
import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ensconce import enclave
from ensconce.enclave import Enclave, Status, Untrusted
from ensconce.errors import (
    DeviceError,
    EnclaveCrashed,
    EnclaveError,
    EnclaveLost,
    OcallError,
    OutOfThreads,
)
from ensconce.sdk.build import build
from ensconce.sdk.sign import load_signing_key, make_signing_key, read_config, sign

if TYPE_CHECKING:  # made by `ensconce sdk stub enclave.edl > interface.pyi`
    from interface import Ecalls, Ocalls

HERE = Path(__file__).parent
BUILD = HERE / "build"
EDL = HERE / "enclave.edl"
THREADS = 4  # TCSNum in enclave.config.xml


class Host:
    """The OCALLs: any object whose methods have their names. A dict of functions does as well."""

    enclave: "Ecalls"  # set once it is loaded

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.go_on = threading.Event()

    def answer(self, question: str | None, /) -> int:
        """Get a string; what is returned goes into the enclave."""
        if question == "raise":
            raise LookupError("no answer to this one")
        return len(question or "")

    def read_name(self, name: memoryview | None, size: int, /) -> int:
        """Fill an [out] buffer, which is valid until this function returns."""
        text = b"Ada"[:size]
        if name is not None:
            name[: len(text)] = text
        return len(text)

    def go_down(self, depth: int, /) -> int:
        """Call back into the enclave from within an OCALL."""
        return self.enclave.deeper(depth)

    def wait(self) -> None:
        """Keep a thread outside, in the middle of its ECALL."""
        self.inside.release()
        self.go_on.wait(30)


def signed_enclave() -> Path:
    """Build and sign the enclave."""
    BUILD.mkdir(exist_ok=True)
    image, key = BUILD / "enclave.so", BUILD / "signing-key.pem"
    build([HERE / "enclave.c"], EDL, image)
    signed = BUILD / "enclave.signed.so"
    signer = load_signing_key(key) if key.exists() else make_signing_key(key)
    sign(image, signed, signer, config=read_config(HERE / "enclave.config.xml"))
    return signed


def buffers(it: "Ecalls") -> None:
    """[in] takes bytes; [out] and [in, out] fill a buffer of yours in place."""
    print(f"[in]       checksum of bytes: {it.checksum(b'abc', 3):#x}")
    target = bytearray(8)
    it.pattern(target, len(target))
    print(f"[out]      pattern: {target.hex()}")
    numbers = array.array("i", [1, 2, 3])
    it.reverse(numbers, len(numbers))
    print(f"[in, out]  reversed: {numbers.tolist()}")
    quotient = ctypes.c_int32()  # a single number comes back in one of ctypes
    status = it.divide(42, 5, quotient)
    print(f"           42 / 5 is {quotient.value}, with status {status}")
    status = it.divide(42, 0, quotient)
    print(f"           42 / 0 is refused: {enclave.describe(status)}")


def wrong_arguments(it: "Ecalls") -> None:
    """A wrong argument is an exception, before anything enters the enclave."""
    attempts: list[Callable[[], object]] = [
        lambda: it.checksum(b"abc", 4),
        lambda: it.pattern(b"read-only", 4),  # type: ignore[arg-type]  # mypy finds this one too
        lambda: it.divide(1 << 40, 1, ctypes.c_int32()),
    ]
    for attempt in attempts:
        try:
            attempt()
        except (TypeError, ValueError) as error:
            print(f"refused    {error}")


def strings_and_structures(it: "Ecalls") -> None:
    """[string] takes str; a structure of the EDL's is a dict, or a ctypes.Structure."""
    print(f"[string]   letters: {it.count_letters('to be, or not')}")
    text = bytearray(b"loud\0")
    it.shout(text)
    print(f"           [in, out]: {text.rstrip(bytes(1)).decode()}")
    where = {"x": 1, "y": -1}
    it.move(where, 10)
    print(f"struct     moved to {where}")
    print(f"           span of a list: {it.span([{'x': -3}, {'x': 4, 'y': 9}], 2)}")

    class Point(ctypes.Structure):
        _fields_ = (("x", ctypes.c_int32), ("y", ctypes.c_int32))

    point = Point(5, 6)
    it.move(point, 1)
    print(f"           with ctypes: ({point.x}, {point.y})")


def memory_outside(it: "Ecalls", loaded: Enclave) -> None:
    """[user_check] takes an address: of memory made for it, or of a buffer held in place."""
    total = ctypes.c_uint64()
    shared = Untrusted(1 << 20)
    shared.data[:3] = bytes([1, 2, 3])
    it.sum(shared.address, shared.size, total)
    print(f"user_check sum of shared memory: {total.value}")
    shared.close()
    with enclave.pinned(b"\x05\x06") as pin:
        it.sum(pin.address, pin.size, total)
    print(f"           sum of pinned bytes: {total.value}")
    status = it.sum(loaded.base, 16, total)
    print(f"           an address inside is refused: {Status(status).name}")


def calls_out(it: "Ecalls") -> None:
    """OCALLs are Python functions; they may call in again, and may raise."""
    print(f"OCALL      answered: {it.ask('how long is this?')}")
    print(f"           nested ECALLs: {it.descend(5)} deep")
    try:
        it.ask("raise")
    except OcallError as error:
        print(f"           what it raised is the cause: {error.__cause__!r}")
    try:
        it.deeper(1)
    except EnclaveError as error:
        print(f"           a private ECALL is refused: {Status(error.status).name}")


def threads(it: "Ecalls", host: Host) -> None:
    """As many threads may be inside as there are TCSs; one more is refused, or waits."""
    with ThreadPoolExecutor(THREADS) as pool:
        met = list(pool.map(it.meet, [THREADS] * THREADS))
        print(f"threads    met inside: {met}")
        held = [pool.submit(it.hold) for _ in range(THREADS)]
        for _ in held:
            host.inside.acquire(timeout=30)
        try:
            it.answered()
        except OutOfThreads as error:
            print(f"           one more is refused: {error}")
        finally:
            host.go_on.set()
    print(f"           afterwards: {it.answered()} calls have been answered")


def crash(file: Path) -> None:
    """An enclave that crashed takes no more calls; the process goes on, and loads it again."""
    with enclave.load(file, edl=EDL, debug=True) as broken:
        for _ in range(2):
            try:
                broken.crash()
            except EnclaveCrashed as error:
                print(f"crash      {error}")
    try:
        broken.answered()
    except EnclaveLost as error:
        print(f"closed     {error}")


def with_recovery(start: Callable[[], Enclave], work: Callable[[Enclave], int]) -> int:
    """Load and work; once more where the enclave's memory was lost meanwhile.

    State that has to survive belongs in sealed data: see examples/03-sealed-state.
    """
    try:
        with start() as it:
            return work(it)
    except EnclaveLost as error:
        print(f"lost       {error}")
    with start() as it:
        return work(it)


def power_transition(file: Path) -> None:
    """A machine that sleeps loses its enclaves' memory: EnclaveLost, at any call."""
    sleepy = enclave.emulated_device()
    devices = [sleepy, enclave.emulated_device()]

    def start() -> Enclave:
        return enclave.load(file, edl=EDL, device=devices.pop(0))

    def work(it: Enclave) -> int:
        if it.device is sleepy:
            sleepy.lose()  # what a real machine does when its lid is closed
        quotient = ctypes.c_int32()
        it.divide(84, 2, quotient)
        return quotient.value

    print(f"           the second time it works: {with_recovery(start, work)}")


def epc(file: Path) -> None:
    """An enclave larger than the EPC runs, paged in and out; a bad fit is told at load."""
    total = ctypes.c_uint64()
    device = enclave.emulated_device(epc_size=8 << 20)
    with enclave.load(file, edl=EDL, device=device) as it:
        it.fill(12, total)
        print(f"EPC        12 MiB used in 8 MiB of EPC: {total.value >> 20} MiB are right")
        status = it.fill(64, total)
        print(f"           64 MiB in a heap of 16 are refused: {Status(status).name}")
    try:
        enclave.load(file, edl=EDL, device=enclave.emulated_device(epc_size=16 << 12))
    except DeviceError as error:
        print(f"           64 KiB of EPC are not enough: {error}")


def main() -> None:
    """Go through the topics."""
    print("Building and signing; the first build on a machine takes some seconds more.")
    file, host = signed_enclave(), Host()
    ocalls: Ocalls = host
    with enclave.load(file, edl=EDL, ocalls=ocalls) as loaded:
        it = host.enclave = cast("Ecalls", loaded)
        buffers(it)
        wrong_arguments(it)
        strings_and_structures(it)
        memory_outside(it, loaded)
        calls_out(it)
        threads(it, host)
    crash(file)
    power_transition(file)
    epc(file)


if __name__ == "__main__":
    main()
