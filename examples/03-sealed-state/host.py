# SPDX-License-Identifier: Apache-2.0
"""Sealed state: a counter that survives restarts and upgrades in a file that the host can't open.

Run it with `python host.py`, and again: it goes on counting. Everything it makes is in `build/`.
"""

import ctypes
import os
from dataclasses import replace
from pathlib import Path

from ensconce import enclave
from ensconce.enclave import Enclave, Status
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, load_signing_key, make_signing_key, read_config, sign

HERE = Path(__file__).parent
BUILD = HERE / "build"
EDL = HERE / "enclave.edl"
STATE = BUILD / "counter.sealed"
ROLLED_BACK = 0x10001  # the enclave's own status


def signing_key(name: str) -> SigningKey:
    """Return a key of this example, made on the first run."""
    path = BUILD / f"{name}.pem"
    return load_signing_key(path) if path.exists() else make_signing_key(path)


def signed_enclave(version: int, signer: str = "signer") -> Path:
    """Build a version of the enclave; the version is its ISVSVN too."""
    image = build(
        [HERE / "enclave.c"], EDL, BUILD / f"v{version}.so", defines=[f"VERSION={version}"]
    )
    config = replace(read_config(HERE / "enclave.config.xml"), isv_svn=version)
    signed = BUILD / f"v{version}.{signer}.so"
    sign(image, signed, signing_key(signer), config=config)
    return signed


def load(file: Path) -> Enclave:
    """Load one of the enclaves; all of them have the same interface."""
    return enclave.load(file, edl=EDL)


def say(status: int) -> str:
    """Return what a status code means."""
    if status == ROLLED_BACK:
        return "refused: this state is older than the one in use"
    return "accepted" if status == Status.SUCCESS else f"refused: {enclave.describe(status)}"


def store(path: Path, sealed: bytes) -> None:
    """Replace a file as a whole: a crash leaves the old state or the new one, never half of it."""
    beside = path.with_suffix(".new")
    with beside.open("wb") as stream:
        stream.write(sealed)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)


def restore(counter: Enclave, sealed: bytes) -> int:
    """Give a sealed state to the enclave; return its status."""
    return int(counter.restore(sealed, len(sealed)))


def count(counter: Enclave, path: Path) -> int:
    """Count one further, store the sealed state, and return the new count."""
    sealed, now = bytearray(counter.sealed_size()), ctypes.c_uint64()
    status = counter.count(sealed, len(sealed), now)
    if status != Status.SUCCESS:
        raise SystemExit(f"counting failed: {enclave.describe(status)}")
    store(path, sealed)
    return now.value


def first_run(v1: Path) -> None:
    """Start or go on, and count to where the next run will find it."""
    with load(v1) as counter:
        if STATE.exists():
            status = restore(counter, STATE.read_bytes())
            print(f"1. The state of an earlier run is {say(status)}")
        else:
            counter.start()
            print("1. No state yet, so the counter starts at 0")
        for _ in range(3):
            now = count(counter, STATE)
        print(f"   counted to {now}; the sealed state has {STATE.stat().st_size} bytes")
    with load(v1) as counter:
        print(f"2. After a restart the state is {say(restore(counter, STATE.read_bytes()))}")
        print(f"   counted to {count(counter, STATE)}")


def upgrade(v1: Path, v2: Path) -> None:
    """Let version 2 take over the state of version 1, and see that there is no way back."""
    newer = BUILD / "counter-v2.sealed"
    with load(v2) as counter:
        print(f"3. Version 2 finds version 1's state {say(restore(counter, STATE.read_bytes()))}")
        times = ctypes.c_uint64()
        counter.restored(times)
        print(f"   counted to {count(counter, newer)}, restored {times.value} time since version 2")
    with load(v1) as counter:
        print(f"4. Version 1 finds version 2's state {say(restore(counter, newer.read_bytes()))}")


def attacks(v1: Path, stranger: Path) -> None:
    """Give enclaves what they have to refuse."""
    sealed = STATE.read_bytes()
    with load(v1) as counter:
        changed = bytearray(sealed)
        changed[-1] ^= 1
        print(f"5. A changed bit is {say(restore(counter, changed))}")
        print(f"   half a file is {say(restore(counter, sealed[:300]))}")
    with load(stranger) as counter:
        print(f"6. To another signer's enclave the state is {say(restore(counter, sealed))}")


def roll_back(v1: Path) -> None:
    """Play an old state back: refused while the enclave runs, and not after a restart."""
    old = STATE.read_bytes()
    with load(v1) as counter:
        restore(counter, old)
        count(counter, STATE)
        print(f"7. An old state, while the enclave runs, is {say(restore(counter, old))}")
    with load(v1) as counter:
        print(f"   the same old state after a restart is {say(restore(counter, old))}")
        print("   Sealing alone can't prevent that: see README.md, 'An old state'")


def main() -> None:
    """Go through the life of a sealed state."""
    print("Building three enclaves; the first build on a machine takes some seconds more.")
    BUILD.mkdir(exist_ok=True)
    v1, v2, stranger = signed_enclave(1), signed_enclave(2), signed_enclave(1, "stranger")
    first_run(v1)
    upgrade(v1, v2)
    attacks(v1, stranger)
    roll_back(v1)


if __name__ == "__main__":
    main()
