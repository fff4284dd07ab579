# SPDX-License-Identifier: Apache-2.0
"""Endorsements in TLS certificates: the collateral that a peer sends along.

60000([version, TCB info, its issuer chain, PCK CRL, root CRL, PCK CRL's issuer chain, QE identity,
its issuer chain, and perhaps a date]), as Open Enclave orders them (oe_sgx_endorsements_fields_t).
The two signed texts are as PCS answers them, {"tcbInfo":…,"signature":"…"}, so that the signed
bytes stay what they were. Nothing here is trusted: `verify` checks all of it.
"""

from ensconce.dcap.cbor import Tagged, decode, encode
from ensconce.dcap.collateral import Collateral, crl_in, signed_in
from ensconce.dcap.ratls_evidence import QUOTE_TAG
from ensconce.errors import FormatError

__all__ = ["read_endorsements", "write_endorsements"]

_SOURCE, _CARRIER = "the endorsements", "the TLS certificate"
_FIELDS = 8
_NUL = b"\0"  # of C strings


def read_endorsements(value: bytes) -> Collateral:
    """Return the collateral in the extension's value."""
    tagged = decode(value, _SOURCE)
    if not isinstance(tagged, Tagged) or tagged.tag != QUOTE_TAG:
        raise _fault(f"no tag {QUOTE_TAG}")
    items = tagged.value
    if not isinstance(items, tuple) or len(items) not in (_FIELDS, _FIELDS + 1):
        raise _fault(f"no list of {_FIELDS} or {_FIELDS + 1} items")
    parts = [item for item in items[1:_FIELDS] if isinstance(item, bytes)]
    if not isinstance(items[0], int) or len(parts) != _FIELDS - 1:
        raise _fault("items of other types than a version and byte strings")
    tcb_info, tcb_chain, pck_crl, root_crl, crl_chain, identity, identity_chain = parts
    info, info_signature = signed_in(tcb_info.rstrip(_NUL), "tcbInfo", _CARRIER)
    qe, qe_signature = signed_in(identity.rstrip(_NUL), "enclaveIdentity", _CARRIER)
    return Collateral(
        crl_chain.rstrip(_NUL),
        _crl(root_crl),
        _crl(pck_crl),
        tcb_chain.rstrip(_NUL),
        info,
        info_signature,
        identity_chain.rstrip(_NUL),
        qe,
        qe_signature,
    )


def write_endorsements(collateral: Collateral) -> bytes:
    """Return the extension's value."""
    items = (
        1,
        _join(b"tcbInfo", collateral.tcb_info, collateral.tcb_info_signature),
        collateral.tcb_info_issuer_chain,
        collateral.pck_crl,
        collateral.root_ca_crl,
        collateral.pck_crl_issuer_chain,
        _join(b"enclaveIdentity", collateral.qe_identity, collateral.qe_identity_signature),
        collateral.qe_identity_issuer_chain,
    )
    return encode(Tagged(QUOTE_TAG, items))


def _join(name: bytes, text: bytes, signature: bytes) -> bytes:
    """Return a signed text as PCS answers it."""
    return b'{"%s":%s,"signature":"%s"}' % (name, text, signature.hex().encode())


def _crl(value: bytes) -> bytes:
    """Return a CRL in DER, which may stand there in hex with a NUL behind it."""
    return crl_in(value if value[:1] == b"\x30" else value.rstrip(_NUL), _CARRIER)


def _fault(what: str) -> FormatError:
    """Return the error of endorsements that can't be used."""
    return FormatError(f"{_SOURCE} have {what}", source=_SOURCE)
