# SPDX-License-Identifier: Apache-2.0
"""Hello world: build an enclave from C, sign it, load it, and call it from Python.

Run it with `python host.py`; it needs no SGX processor. Everything it makes is in `build/`.
"""

from pathlib import Path

from ensconce import enclave
from ensconce.isa.report import Report
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, load_signing_key, make_signing_key, read_config, sign

HERE = Path(__file__).parent
BUILD = HERE / "build"


def signing_key() -> SigningKey:
    """Return this example's own key, made on the first run.

    What it signs, it vouches for: sealed data belongs to its hash, MRSIGNER. Keep yours safe.
    """
    path = BUILD / "signing-key.pem"
    return load_signing_key(path) if path.exists() else make_signing_key(path)


def signed_enclave() -> Path:
    """Build and sign the enclave; return the file that can be loaded."""
    BUILD.mkdir(exist_ok=True)
    image = build([HERE / "enclave.c"], HERE / "enclave.edl", BUILD / "enclave.so")
    signed = BUILD / "enclave.signed.so"
    sign(image, signed, signing_key(), config=read_config(HERE / "enclave.config.xml"))
    return signed


def print_from_enclave(text: str) -> None:
    """Be the OCALL `print`."""
    print(f"  the enclave says: {text}")


def main() -> None:
    """Make every kind of call that the enclave offers."""
    print("Building and signing; the first build on a machine takes some seconds more.")
    file = signed_enclave()
    with enclave.load(
        file, edl=HERE / "enclave.edl", ocalls={"print": print_from_enclave}
    ) as hello:
        greeting = bytearray(64)
        hello.greet("Python", greeting, len(greeting))
        print(f"A string came back: {greeting.rstrip(bytes(1)).decode()}")
        print(f"40 + 2 = {hello.add(40, 2)}")
        print(f"Different words: {hello.count_words('to be or not to be')}")

        report = bytearray(432)
        status = hello.report(bytes(512), b"any 64 bytes".ljust(64, b"\0"), report)
        body = Report.parse(bytes(report)).body
        print(f"Reported with status {status}: MRENCLAVE {bytes(body.mr_enclave).hex()}")

        secret = b"the cake is real"
        sealed = bytearray(hello.sealed_size(len(secret)))
        hello.seal(secret, len(secret), sealed, len(sealed))
        opened, length = bytearray(len(secret)), bytearray(4)
        hello.unseal(sealed, len(sealed), opened, len(opened), length)
        print(f"Sealed {len(secret)} bytes to {len(sealed)}, and unsealed: {opened.decode()}")

        sealed[-1] ^= 1
        status = hello.unseal(sealed, len(sealed), opened, len(opened), length)
        print(f"One bit changed outside, so unsealing says: {enclave.describe(status)}")
        print(f"The enclave has answered {hello.answered()} calls.")


if __name__ == "__main__":
    main()
