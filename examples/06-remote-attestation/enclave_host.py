# SPDX-License-Identifier: Apache-2.0
"""The enclave's host: carries what comes over TLS to the enclave and back.

Run it with `python enclave_host.py [PORT]`; `relying_party.py` starts it by itself. The host is
trusted with nothing: it holds the TLS key, and sees the secret encrypted to the enclave's own.
"""

import hashlib
import json
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from ensconce import enclave
from ensconce.enclave import Enclave, Status, default_device
from ensconce.isa.report import Report
from ensconce.platform.quoting import EmulatedPlatform
from ensconce.ratls import Credential, server_context
from ensconce.sdk.build import build
from ensconce.sdk.sign import load_signing_key, make_signing_key, read_config, sign

HERE = Path(__file__).parent
BUILD = HERE / "build"
EDL = HERE / "enclave.edl"
CLAIMS, BOX = 169, 112  # sizes of `struct claims` and `struct box`


def signed_enclave() -> Path:
    """Build and sign the enclave; the same sources give the same MRENCLAVE on every machine."""
    BUILD.mkdir(exist_ok=True)
    key = BUILD / "signing-key.pem"
    image = build([HERE / "enclave.c"], EDL, BUILD / "enclave.so")
    signed = BUILD / "enclave.signed.so"
    signing_key = load_signing_key(key) if key.exists() else make_signing_key(key)
    sign(image, signed, signing_key, config=read_config(HERE / "enclave.config.xml"))
    return signed


def publish(platform: EmulatedPlatform) -> None:
    """Write down what the platform's maker publishes: for hardware, Intel's PCS has it."""
    collateral = platform.pcs.collateral(datetime.now(UTC))
    root = platform.pcs.root.certificate().public_bytes(Encoding.DER)
    (BUILD / "collateral.json").write_text(json.dumps(collateral))
    (BUILD / "root.der").write_bytes(root)


def check(status: int) -> None:
    """Raise what the enclave's status code says, unless it is success."""
    if status != Status.SUCCESS:
        raise RuntimeError(enclave.describe(status))


def attest(
    it: Enclave, platform: EmulatedPlatform, key: bytes, nonce: bytes
) -> tuple[bytes, bytes]:
    """Have the enclave vouch for a TLS key; return the quote and the enclave's claims."""
    claims, report = bytearray(CLAIMS), bytearray(Report.SIZE)
    target = bytes(platform.quoter.target_info)
    check(it.attest(target, hashlib.sha256(key).digest(), nonce, claims, CLAIMS, report))
    return platform.quoter.quote(Report.parse(report)), bytes(claims)


def serve(it: Enclave, credential: Credential, listener: socket.socket) -> None:
    """Take one box after the other to the enclave, and answer with the secret's fingerprint."""
    context = server_context(credential)
    while True:
        connection, _ = listener.accept()
        try:
            connection.settimeout(10)
            with context.wrap_socket(connection, server_side=True) as tls:
                box = tls.makefile("rb").read(BOX)
                if not box:
                    continue  # the relying party did not like what it saw
                digest = bytearray(32)
                check(it.receive(box, len(box)))
                check(it.fingerprint(digest))
                tls.sendall(digest)
        except (OSError, RuntimeError) as error:
            print(f"   the host hears: {error}", file=sys.stderr, flush=True)
        finally:
            connection.close()


def main() -> None:
    """Build, load, attest, serve."""
    file = signed_enclave()
    platform = EmulatedPlatform.load()
    publish(platform)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with (
        enclave.load(file, edl=EDL, device=default_device("emulated")) as it,
        socket.create_server(("127.0.0.1", port)) as listener,
    ):
        credential = Credential(lambda key, nonce: attest(it, platform, key, nonce or bytes(32)))
        print(f"listening on {listener.getsockname()[1]}", flush=True)
        serve(it, credential, listener)


if __name__ == "__main__":
    main()
