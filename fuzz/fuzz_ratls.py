# SPDX-License-Identifier: Apache-2.0
"""Fuzz TLS certificates with evidence: the DER walk, the CBOR, the endorsements."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.dcap import der
    from ensconce.dcap.cbor import decode, encode
    from ensconce.dcap.ratls_certificate import TlsCertificate
    from ensconce.dcap.ratls_endorsements import read_endorsements, write_endorsements
    from ensconce.dcap.ratls_evidence import ENDORSEMENTS, Evidence
    from ensconce.errors import FormatError


def one_input(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert encode(decode(data, "fuzz")) == data
    with contextlib.suppress(FormatError):
        collateral = read_endorsements(data)
        assert read_endorsements(write_endorsements(collateral)) == collateral
    with contextlib.suppress(FormatError):
        certificate = TlsCertificate.parse(data)
        certificate.signs_itself()
        evidence = Evidence.read(certificate)
        evidence.vouches_for(certificate)
        read_endorsements(certificate.extensions.get(der.encode_oid(ENDORSEMENTS), b""))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
