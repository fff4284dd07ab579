# SPDX-License-Identifier: Apache-2.0
"""Cryptography inside the enclave, beside `openssl speed` on the same core, turn by turn.

Both do the same for the same seconds: AEAD with nonce, 13 bytes of header and tag, one-shot
hashes, signatures of 32 bytes. What differs stays: the enclave expands its AES key at every call,
hashes what it signs, and its RSA keys come without primes. Without an openssl command the peer is
Python's `cryptography`.
"""

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from enclaves import HERE, signed

from ensconce import enclave

SECONDS, ROUNDS = 1, 3
SLICE = 0.02  # seconds in one ECALL

# name, operation of crypto.c, size, arguments of openssl speed, the field of its answer
ROWS = (
    *(
        (f"AES-128-GCM, {size} bytes", 0, size, ("-aead", "-evp", "aes-128-gcm"), 3)
        for size in (64, 1024, 16384)
    ),
    *((f"SHA-256, {size} bytes", 1, size, ("-evp", "sha256"), 3) for size in (64, 1024, 16384)),
    ("ECDSA P-256 sign", 2, 32, ("ecdsap256",), 3),
    ("ECDSA P-256 verify", 3, 32, ("ecdsap256",), 4),
    ("RSA-3072 sign", 4, 32, ("rsa3072",), 3),
    ("RSA-3072 verify", 5, 32, ("rsa3072",), 4),
)


def rate(call: Callable[[int], object]) -> float:
    """Return how often a second `call`, given a number of rounds, does one round."""
    rounds = 1
    while True:
        start = time.perf_counter()
        call(rounds)
        if (taken := time.perf_counter() - start) > SLICE / 4:
            break
        rounds *= 2
    rounds = max(1, int(rounds * SLICE / taken))
    done, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < SECONDS:
        call(rounds)
        done += rounds
    return done / taken


def by_openssl(program: str, arguments: tuple[str, ...], size: int, field: int) -> float:
    """Return operations a second of openssl."""
    command = [program, "speed", "-mr", "-seconds", str(SECONDS)]
    command += ["-bytes", str(size)] if "-evp" in arguments else []
    done = subprocess.run(  # noqa: S603 # the system's own program
        [*command, *arguments], capture_output=True, text=True, check=True
    )
    answer = next(
        line for line in done.stdout.splitlines() if line.startswith("+F") and ":" in line
    )
    number = float(answer.split(":")[field])
    return number / size if "-evp" in arguments else number


def by_cryptography() -> dict[int, Callable[[bytes], object]]:
    """Return, for each operation, a function of the data in Python's library."""
    gcm, pss = AESGCM(bytes(16)), padding.PKCS1v15()
    algorithm, sha = ec.ECDSA(hashes.SHA256()), hashes.SHA256()
    curve = ec.generate_private_key(ec.SECP256R1())
    large = rsa.generate_private_key(65537, 3072)
    by_curve = curve.sign(bytes(32), algorithm)
    by_rsa = large.sign(bytes(32), pss, sha)

    def digest(data: bytes) -> bytes:
        context = hashes.Hash(sha)
        context.update(data)
        return context.finalize()

    return {
        0: lambda data: gcm.encrypt(bytes(12), data, bytes(13)),
        1: digest,
        2: lambda data: curve.sign(data, algorithm),
        3: lambda data: curve.public_key().verify(by_curve, data, algorithm),
        4: lambda data: large.sign(data, pss, sha),
        5: lambda data: large.public_key().verify(by_rsa, data, pss, sha),
    }


def peer() -> tuple[str, Callable[[int, int, tuple[str, ...], int], float]]:
    """Return the name of what to compare with, and the function that runs it."""
    program = shutil.which("openssl")
    if program is not None:
        found = subprocess.run(  # noqa: S603 # the system's own program
            [program, "version"], capture_output=True, text=True, check=True
        )
        name = " ".join(found.stdout.split()[:2])
        return name, lambda _, size, arguments, field: by_openssl(program, arguments, size, field)
    print("there is no openssl command here; beside Python's cryptography instead")
    functions = by_cryptography()

    def by_python(operation: int, size: int, _arguments: object, _field: int) -> float:
        function, data = functions[operation], bytes(size)
        return rate(lambda rounds: [function(data) for _ in range(rounds)])

    return "cryptography", by_python


def main() -> None:
    """Measure and print, one line for each operation."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    name, other = peer()
    with tempfile.TemporaryDirectory() as folder:
        file = signed("crypto", Path(folder))
        with enclave.load(file, edl=HERE / "crypto" / "crypto.edl") as loaded:
            if status := loaded.prepare():
                raise SystemExit(f"no keys: {enclave.describe(status)}")
            print(f"{SECONDS} s each, by turns, median of {ROUNDS}; one core")
            print(f"{'':24}{'in the enclave':>16}{name:>16}   enclave / {name}")
            for title, operation, size, arguments, field in ROWS:
                pairs = []
                for _ in range(ROUNDS):
                    ours = rate(lambda rounds: check(loaded.repeat(operation, size, rounds)))  # noqa: B023
                    pairs.append((ours, other(operation, size, arguments, field)))
                ours, theirs = (statistics.median(each) for each in zip(*pairs, strict=True))
                ratio = statistics.median(left / right for left, right in pairs)
                print(f"{title:24}{ours:14,.0f}/s{theirs:14,.0f}/s   {ratio:.2f}", flush=True)


def check(status: int) -> None:
    """Stop at a status that is an error."""
    if status:
        raise SystemExit(f"an operation failed: {enclave.describe(status)}")


if __name__ == "__main__":
    main()
