# SPDX-License-Identifier: Apache-2.0
"""Local attestation: two enclaves prove to each other who they are, and share secrets.

Run it with `python host.py`. The host carries every message, and learns nothing from them.
"""

from dataclasses import replace
from pathlib import Path

from ensconce import enclave
from ensconce.enclave import Enclave, Status
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, load_signing_key, make_signing_key, read_config, sign

HERE = Path(__file__).parent
BUILD = HERE / "build"
PRODUCTS = {"initiator.edl": 1, "responder.edl": 2}
MESSAGE_1, MESSAGE_2, MESSAGE_3 = 576, 512, 452  # bytes
PACKET = 56
OWN_STATUSES = {
    0x10001: "genuine, and a stranger: not the signer, role or version that is wanted",
    0x10002: "replayed: not the packet that comes next",
}


def signing_key(name: str) -> SigningKey:
    """Return a key of this example, made on the first run."""
    path = BUILD / f"{name}.pem"
    return load_signing_key(path) if path.exists() else make_signing_key(path)


def load(source: str, interface: str, signer: str = "signer") -> Enclave:
    """Build one of the sides, sign it with somebody's key, and load it."""
    edl = HERE / interface
    image = BUILD / source.replace(".c", ".so")
    build([HERE / source, HERE / "peer.c"], edl, image)
    config = replace(read_config(HERE / "enclave.config.xml"), isv_prod_id=PRODUCTS[interface])
    signed = image.with_suffix(f".{signer}.so")
    sign(image, signed, signing_key(signer), config=config)
    return enclave.load(signed, edl=edl)


def say(status: int) -> str:
    """Return what a status code means."""
    if status == Status.SUCCESS:
        return "accepted"
    return f"refused, {OWN_STATUSES.get(status) or enclave.describe(status)}"


def attest(initiator: Enclave, responder: Enclave, *, tamper: bool = False) -> dict[str, int]:
    """Carry the three messages; return the status of each step that was reached."""
    first, second, third = bytearray(MESSAGE_1), bytearray(MESSAGE_2), bytearray(MESSAGE_3)
    steps = {"invite": responder.invite(first)}
    steps["answer_1"] = initiator.answer_1(first, second)
    if tamper:
        second[0] ^= 1  # one bit of the initiator's public key
    steps["answer_2"] = responder.answer_2(second, third)
    if steps["answer_2"] == Status.SUCCESS:
        steps["finish"] = initiator.finish(third)
    return steps


def carry(sender: Enclave, receiver: Enclave, *, tamper: bool = False) -> tuple[int, bytes]:
    """Carry one encrypted packet; return the receiver's status and the packet."""
    packet = bytearray(PACKET)
    status = sender.give(packet, len(packet))
    if status != Status.SUCCESS:
        raise SystemExit(f"sending failed: {enclave.describe(status)}")
    if tamper:
        packet[-1] ^= 1
    return receiver.take(packet, len(packet)), bytes(packet)


def fingerprints(side: Enclave) -> tuple[str, str]:
    """Return the hashes of a side's own secret and of the one it has received."""
    own, received = bytearray(32), bytearray(32)
    side.fingerprints(own, received)
    return own.hex(), received.hex()


def exchange(initiator: Enclave, responder: Enclave) -> None:
    """Attest, send a secret each way, and compare what both sides have."""
    steps = attest(initiator, responder)
    if any(steps.values()):
        raise SystemExit(f"attestation failed: {steps}")
    print("1. The two enclaves have proved to each other who they are, and share a key")
    status, packet = carry(initiator, responder)
    print(f"2. A secret, {say(status)}: the host saw only {packet[24:40].hex()}…")
    print(f"   the answer, {say(carry(responder, initiator)[0])}")
    first, second = fingerprints(initiator), fingerprints(responder)
    print(f"   each has the other's secret: {first == second[::-1]}")


def attacks(initiator: Enclave, responder: Enclave) -> None:
    """Do what a hostile host can do with messages."""
    status, packet = carry(initiator, responder)
    print(f"3. A packet, {say(status)}")
    print(f"   the same packet again is {say(responder.take(packet, len(packet)))}")
    print(f"   sent back to its sender it is {say(initiator.take(packet, len(packet)))}")
    print(f"4. A packet with one bit changed is {say(carry(initiator, responder, tamper=True)[0])}")
    status = attest(initiator, responder, tamper=True)["answer_2"]
    print(f"5. A changed message of the attestation is {say(status)}")


def strangers(initiator: Enclave, responder: Enclave) -> None:
    """Let another signer's enclaves take either side."""
    with load("initiator.c", "initiator.edl", signer="stranger") as stranger:
        status = attest(stranger, responder)["answer_2"]
        print(f"6. An initiator with the same code by another signer is {say(status)}")
    with load("stranger.c", "responder.edl", signer="stranger") as stranger:
        status = attest(initiator, stranger)["finish"]
        print(f"   a responder that would talk to anybody is {say(status)}")


def main() -> None:
    """Let the right enclaves talk, and keep out the wrong ones."""
    print("Building the enclaves; the first build on a machine takes some seconds more.")
    BUILD.mkdir(exist_ok=True)
    with (
        load("initiator.c", "initiator.edl") as initiator,
        load("responder.c", "responder.edl") as responder,
    ):
        exchange(initiator, responder)
        attacks(initiator, responder)
        strangers(initiator, responder)


if __name__ == "__main__":
    main()
