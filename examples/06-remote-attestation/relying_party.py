# SPDX-License-Identifier: Apache-2.0
"""A relying party: gives its secret to one enclave, and to nobody else.

Run it with `python relying_party.py`, which starts the host too. It needs no SGX: to verify is
arithmetic.
"""

import hashlib
import secrets
import socket
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ensconce.crypto import p256_point
from ensconce.dcap import INTEL_ROOT, Collateral, Policy, Root
from ensconce.dcap.policy import SgxPolicy
from ensconce.image import open_image, verify_image
from ensconce.ratls import PeerRefused, Verifier, appraisal_of, client_context

HERE = Path(__file__).parent
BUILD = HERE / "build"


def turned(number: bytes) -> bytes:
    """Return numbers of 32 bytes in the byte order of sgx_tcrypto, which is little-endian."""
    return b"".join(number[at : at + 32][::-1] for at in range(0, len(number), 32))


def encrypted(secret: bytes, enclave_key: bytes) -> bytes:
    """Return a secret that the holder of a key can open and nobody else, for `receive`."""
    own = ec.generate_private_key(ec.SECP256R1())
    point = b"\x04" + turned(enclave_key)
    receiver = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    sender = turned(p256_point(own.public_key()))
    shared = turned(own.exchange(ec.ECDH(), receiver))
    key = hashlib.sha256(shared + sender + enclave_key).digest()[:16]
    sealed = AESGCM(key).encrypt(bytes(12), secret, None)
    return sender + sealed[-16:] + sealed[:-16]


def release(secret: bytes, address: tuple[str, int], verifier: Verifier) -> str:
    """Give a secret to the enclave at an address if it is the one that is wanted."""
    context = client_context(verifier)
    with socket.create_connection(address, timeout=30) as plain:
        try:
            tls = context.wrap_socket(plain)
        except PeerRefused as refusal:
            return f"refused, and told nothing: {refusal}"
        with tls:
            appraisal = appraisal_of(tls)
            claims = appraisal.require()
            box = encrypted(secret, appraisal.evidence.claims["enclave-key"])
            tls.sendall(box)
            answer = tls.recv(32)
    if answer != hashlib.sha256(secret).digest():
        return "accepted, and then it did not open the secret"
    return (
        f"accepted, the quote is verified and the platform is {claims.tcb_status.value}\n"
        f"   the host saw {box[80:].hex()[:32]}…\n"
        "   the enclave has the secret"
    )


def start_host() -> tuple[subprocess.Popen[str], tuple[str, int]]:
    """Return the host, started, and where it listens."""
    command = [sys.executable, str(HERE / "enclave_host.py")]
    host = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # our own
    line = host.stdout.readline() if host.stdout else ""
    if not line:
        sys.exit("the host did not start")
    return host, ("127.0.0.1", int(line.split()[-1]))


def main() -> None:
    """Try three policies on the same enclave; the last one names it."""
    host, address = start_host()
    try:
        # what a relying party knows beforehand: the enclave, which it has built itself, and the
        # root of this emulated platform, which protects nothing and has to be named for that
        mr_enclave = verify_image(open_image(BUILD / "enclave.signed.so")).mr_enclave
        root = Root.parse((BUILD / "root.der").read_bytes())
        collateral = Collateral.parse((BUILD / "collateral.json").read_bytes())

        this, another = SgxPolicy(mr_enclave=(mr_enclave,)), SgxPolicy(mr_enclave=(bytes(32),))
        production = Policy(sgx=this)
        wrong = Policy(sgx=another, accept_emulated_root=root.fingerprint)
        right = Policy(sgx=this, accept_emulated_root=root.fingerprint)

        secret = secrets.token_bytes(32)
        print(f"A secret for the enclave with MRENCLAVE {mr_enclave.hex()}")
        for number, (what, policy, trusted) in enumerate(
            (
                ("A policy for production", production, INTEL_ROOT),
                ("A policy for another enclave", wrong, root),
                ("The policy for this enclave", right, root),
            ),
            start=1,
        ):
            verifier = Verifier(policy, collateral, (trusted,))
            print(f"{number}. {what}: {release(secret, address, verifier)}")
    finally:
        host.terminate()
        host.wait()


if __name__ == "__main__":
    main()
