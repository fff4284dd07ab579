"""The untrusted side of @@name: load the enclave and call it."""

from collections.abc import Callable
from pathlib import Path

from ensconce import enclave

HERE = Path(__file__).parent
FILE = HERE / "build" / "enclave.signed.so"
EDL = HERE / "enclave" / "enclave.edl"


def load(report: Callable[[str], None] = print) -> enclave.Enclave:
    """Load the enclave; `report` is its OCALL."""
    return enclave.load(FILE, edl=EDL, ocalls={"report": report})


def greet(loaded: enclave.Enclave, name: str) -> str:
    """Return the enclave's greeting."""
    greeting = bytearray(128)
    status = loaded.greet(name, greeting, len(greeting))
    if status:
        raise ValueError(enclave.describe(status))
    return greeting.split(b"\0")[0].decode()


def main() -> None:
    """Make a call of each kind."""
    with load(lambda text: print(f"the enclave reports: {text}")) as loaded:
        print(f"the host got: {greet(loaded, '@@name')}")
        numbers = b"".join(number.to_bytes(4, "little") for number in (20, 21, 1))
        print(f"20 + 21 + 1 = {loaded.total(numbers, 3)}")


if __name__ == "__main__":
    main()
