# SPDX-License-Identifier: Apache-2.0
"""Write a few valid inputs for the fuzz targets to start from: `python fuzz/seeds.py FOLDER`.

Without them a fuzzer has to guess an ELF header and a SIGSTRUCT before it meets a parser's depths.
"""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric import ec
from tests.dcap.certifying import Issuer
from tests.dcap.enclaves import NOW, QuotedEnclave
from tests.dcap.test_tcb_info import identity_of, tcb_info_of
from tests.image.building import EnclaveFile, signed
from tests.kube.webhook.pods import container, epc, pod
from tests.kube.webhook.serving import SETTINGS, review
from tests.oci.building import Layout, small_archive, small_image, tar_of

from ensconce.aesm.wire import request
from ensconce.crypto import generate_signing_key
from ensconce.dcap.keyid import VENDOR_QE_KEY
from ensconce.dcap.pck import PckExtension, SgxType
from ensconce.dcap.quote import (
    Certification,
    CertificationKind,
    Quote,
    QuoteHeader,
    TdReport,
    TdReport15,
    TeeType,
    signed_part,
)
from ensconce.dcap.ratls import make_certificate
from ensconce.edl.files import load_file
from ensconce.edl.printer import render
from ensconce.image import open_image, write_sgxs
from ensconce.image.enclave_elf import EnclaveElf
from ensconce.image.generation import GENERATIONS
from ensconce.isa.report import ReportBody
from ensconce.machine.identity import Identity
from ensconce.oci.tree import Tree
from ensconce.platform.ledger import Ledger
from ensconce.platform.wire import Hello, Kind, QuoteRequest, QuoteTopic

EXAMPLE = Path(__file__).parents[1] / "examples" / "01-hello-world"


def seeds() -> Iterator[tuple[str, bytes]]:
    """Yield a target's name and an input for it."""
    key = generate_signing_key()
    for generation in GENERATIONS:
        file = signed(key, file=EnclaveFile(generation=generation))
        elf = EnclaveElf(memoryview(file), "seed")
        yield "fuzz_elf_image", file
        yield "fuzz_illegal", bytes(EnclaveFile(generation=generation))
        yield "fuzz_metadata", file[elf.note_offset :]
    image, stream = open_image(file), io.BytesIO()
    write_sgxs(stream, image.size, image.ssa_frame_size, list(image.operations())[:8])
    yield "fuzz_sgxs", stream.getvalue()
    yield "fuzz_identity", bytes(Identity.generate())
    yield "fuzz_ratls", ratls_certificate()
    yield "fuzz_ledger", bytes(Ledger.initial(Identity.generate()))
    yield "fuzz_greeting", bytes(Hello(Kind.QUOTE, 0, 0, bytes(16), bytes(64), "seed"))
    for topic in QuoteTopic:
        yield "fuzz_greeting", bytes(QuoteRequest(topic))
    yield "fuzz_enclave_config", (EXAMPLE / "enclave.config.xml").read_bytes()
    key = bytes(VENDOR_QE_KEY)
    yield "fuzz_aesm", request("init_quote_ex", att_key_id=key, b_pub_key_id=True, buf_size=32)
    report = {"report": bytes(432), "qe_report_info": bytes(960), "buf_size": 8192}
    yield "fuzz_aesm", request("get_quote_ex", att_key_id=key, **report)
    keys = bytes(4) + (1).to_bytes(4, "little") + key
    yield "fuzz_aesm", request("select_att_key_id", att_key_id_list=keys)
    edl = EXAMPLE / "enclave.edl"
    yield "fuzz_edl", edl.read_bytes()
    yield "fuzz_edl", render(load_file(edl)).encode()
    yield "fuzz_oci", image_archive(file)
    yield "fuzz_oci", json.dumps(Layout().manifest).encode()
    yield "fuzz_oci", tar_of("folder/" * 40, b"content")
    yield from attestation_seeds()
    yield from cluster_seeds()


def cluster_seeds() -> Iterator[tuple[str, bytes]]:
    """Yield reviews of pods, and a webhook's settings."""
    quoting = pod(epc("test"), epc("aesmd"), initContainers=[epc("init", "4Mi")], quotes="aesmd")
    blanket = [{"operator": "Exists"}]
    asking = container("app", {"alibabacloud.com/sgx_epc_MiB": "2", "sgx.intel.com/qe": "1"})
    for each in (quoting, pod(epc("a"), tolerations=blanket), pod(asking, nodeName="n")):
        yield "fuzz_webhook", json.dumps(review(each)).encode()
    yield "fuzz_webhook", SETTINGS.encode()


def image_archive(enclave: bytes) -> bytes:
    """Return an OCI archive of an image with an enclave."""
    files = Tree()
    files.file("app/enclave.signed.so", enclave)
    with TemporaryDirectory() as folder:
        return small_archive(Path(folder), small_image(files)).read_bytes()


def attestation_seeds() -> Iterator[tuple[str, bytes]]:
    """Yield quotes of every form, a PCK extension, and each part of collateral."""
    sgx, tdx = TeeType.SGX, TeeType.TDX
    forms = [(3, sgx, ReportBody()), (4, sgx, ReportBody()), (4, tdx, TdReport())]
    for version, tee, body in [*forms, (5, tdx, TdReport15())]:
        part = signed_part(QuoteHeader(version, tee_type=tee), body)
        chain = Certification(CertificationKind.PCK_CHAIN, b"chain")
        yield (
            "fuzz_quote",
            bytes(Quote(part, bytes(64), bytes(64), bytes(384), bytes(64), bytes(32), chain)),
        )
    extension = PckExtension(
        bytes(16), (1,) * 16, 2, bytes(16), bytes(2), bytes(6), SgxType.SCALABLE, cached_keys=True
    )
    yield "fuzz_pck", bytes(extension)
    root = Issuer.root()
    crl = root.crl([1])
    pem = root.pem
    tcb_info, identity = json.dumps(tcb_info_of()), json.dumps(identity_of())
    collateral = {
        "pck_crl_issuer_chain": pem.decode(),
        "root_ca_crl": crl.hex(),
        "pck_crl": crl.hex(),
        "tcb_info_issuer_chain": pem.decode(),
        "tcb_info": tcb_info,
        "tcb_info_signature": "00" * 64,
        "qe_identity_issuer_chain": pem.decode(),
        "qe_identity": identity,
        "qe_identity_signature": "00" * 64,
    }
    texts = (tcb_info, identity, json.dumps(collateral))
    for part in (root.der, crl, pem, *(text.encode() for text in texts)):
        yield "fuzz_collateral", part
    platform = {"qe_id": "0A", "pce_id": "0000", "cpu_svn": "00" * 16, "pce_svn": "0d00"}
    platform |= {"enc_ppid": "AB" * 384, "platform_manifest": ""}
    known = {"complete": True, "chain": pem.decode(), "certificates": [], "answered": []}
    own = {"ensconce_pccs": 1, "items": [], "platforms": [platform | known], "policies": []}
    yield "fuzz_pccs", b"fmspc=00606A000000&update=early&tcbEvaluationDataNumber=17"
    for text in (platform, own, collateral):
        yield "fuzz_pccs", json.dumps(text).encode()


def ratls_certificate() -> bytes:
    """Return a TLS certificate with evidence and endorsements."""
    enclave = QuotedEnclave()
    key = ec.generate_private_key(ec.SECP256R1())
    return make_certificate(key, enclave, NOW, endorsements=enclave.collateral(), gramine=True)


def main(folder: Path) -> None:
    """Write the seeds, a folder a target."""
    for number, (target, content) in enumerate(seeds()):
        place = folder / target
        place.mkdir(parents=True, exist_ok=True)
        (place / f"seed-{number}").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
