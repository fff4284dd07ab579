# SPDX-License-Identifier: Apache-2.0
"""The service's answers: the protocol's rules over a backend. No sockets, no clock, no state.

What the rules say, request by request:
- Key ids: 256 bytes or more, else PARAMETER_ERROR; the first 158 must be those of a key that is
  here, else UNSUPPORTED_ATT_KEY_ID. So an EPID key, whatever its name, is unsupported.
- select_att_key_id: without a list the service's own choice; with one the first entry that is
  here, given back as the client wrote it.
- get_supported_att_key_ids: the buffer must have exactly the size of all ids.
- init_quote_ex: `b_pub_key_id` false asks for the size of a public key's id, which is 32; true
  demands a buffer of just that size.
- get_quote_ex: a REPORT has 432 bytes, `qe_report_info` has 960 or is absent, a buffer has at
  least the quote's size; what is left of it comes back as zeros.
- EPID and launch tokens: SERVICE_UNAVAILABLE, in the answer's own type.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from ensconce.aesm.backend import Backend
from ensconce.aesm.codes import Code, Refusal
from ensconce.aesm.keyid import QeReportInfo, parse_key_list
from ensconce.aesm.messages import Family
from ensconce.aesm.wire import MOST_ANSWER, Question
from ensconce.dcap.keyid import Algorithm, KeyBase, KeyId
from ensconce.errors import FormatError
from ensconce.isa.record import Record
from ensconce.isa.report import Report

__all__ = ["KEY_HASH_BYTES", "answer", "asks_backend"]

KEY_HASH_BYTES = 32
_MOST_BUFFER = MOST_ANSWER - 4096  # leaves room for an answer's other fields

_Read = TypeVar("_Read", bound=Record)

Fields = dict[str, object]

_UNOFFERED = {
    Family.EPID: "EPID is not offered, and the vendor has ended it: this service is for "
    "attestation by DCAP",
    Family.LAUNCH: "there are no launch tokens: platforms with flexible launch control, and so all "
    "with DCAP, need none",
}


def answer(question: Question, backend: Backend) -> Fields:
    """Return the fields of the answer to a request. Raises Refusal where it is an error."""
    if reason := _UNOFFERED.get(question.kind.family):
        raise Refusal(Code.SERVICE_UNAVAILABLE, f"{question.kind.name}: {reason}")
    return _ANSWERS[question.kind.name](question.body, backend)


def asks_backend(question: Question) -> bool:
    """Return whether an answer takes more than what the service knows by itself."""
    return question.kind.name in ("init_quote_ex", "get_quote_size_ex", "get_quote_ex")


def _select(body: Any, backend: Backend) -> Fields:
    """Choose a key."""
    if not body.HasField("att_key_id_list"):
        return {"selected_att_key_id": bytes(_keys(backend)[0])}
    wanted = parse_key_list(body.att_key_id_list)
    known = _bases(backend)
    for key in wanted:
        if key[: KeyBase.SIZE] in known:
            return {"selected_att_key_id": key}
    raise _unsupported(wanted[0])


def _number(_body: Any, backend: Backend) -> Fields:
    """Say how many keys there are."""
    return {"att_key_id_num": len(_keys(backend))}


def _ids(body: Any, backend: Backend) -> Fields:
    """Name the keys."""
    keys = b"".join(map(bytes, _keys(backend)))
    if body.buf_size != len(keys):
        raise Refusal(
            Code.PARAMETER_ERROR,
            f"the buffer for key ids has {body.buf_size} bytes and must have {len(keys)}",
        )
    return {"att_key_ids": keys}


def _init(body: Any, backend: Backend) -> Fields:
    """Prepare the attestation key."""
    _check_key(body, backend)
    if body.b_pub_key_id and body.buf_size != KEY_HASH_BYTES:
        raise Refusal(
            Code.PARAMETER_ERROR,
            f"the buffer for the public key's id has {body.buf_size} bytes and must have "
            f"{KEY_HASH_BYTES}",
        )
    target, key_hash = backend.target_info()
    fields: Fields = {"target_info": bytes(target), "pub_key_id_size": KEY_HASH_BYTES}
    return fields | ({"pub_key_id": key_hash} if body.b_pub_key_id else {})


def _size(body: Any, backend: Backend) -> Fields:
    """Say how long a quote is."""
    _check_key(body, backend)
    return {"quote_size": backend.quote_size()}


def _quote(body: Any, backend: Backend) -> Fields:
    """Make a quote."""
    _check_key(body, backend)
    report = _record(Report, body.report, "a REPORT")
    info = None
    if body.HasField("qe_report_info"):
        info = _record(QeReportInfo, body.qe_report_info, "qe_report_info")
    size = backend.quote_size()
    if not size <= body.buf_size <= _MOST_BUFFER:
        raise Refusal(
            Code.PARAMETER_ERROR,
            f"the buffer for the quote has {body.buf_size} bytes; a quote has {size}, and a buffer "
            f"at most {_MOST_BUFFER}",
        )
    quote, proof = backend.quote(report, info)
    fields: Fields = {"quote": quote.ljust(body.buf_size, b"\0")}
    if info is not None:
        made = info if proof is None else replace(info, report=proof)
        fields["qe_report_info"] = bytes(made)
    return fields


_ANSWERS: dict[str, Callable[[Any, Backend], Fields]] = {
    "select_att_key_id": _select,
    "get_supported_att_key_id_num": _number,
    "get_supported_att_key_ids": _ids,
    "init_quote_ex": _init,
    "get_quote_size_ex": _size,
    "get_quote_ex": _quote,
}


def _keys(backend: Backend) -> tuple[KeyId, ...]:
    """Return the keys that are offered; without any there is no service."""
    keys = backend.key_ids()
    if not keys:
        raise Refusal(Code.SERVICE_UNAVAILABLE, "the quoting enclave has no attestation key")
    return keys


def _bases(backend: Backend) -> set[bytes]:
    """Return what key ids begin with that are known here."""
    return {bytes(key.base) for key in (*backend.key_ids(), *backend.also_known_as())}


def _check_key(body: Any, backend: Backend) -> None:
    """Refuse a request for another key."""
    key: bytes = body.att_key_id
    if len(key) < KeyId.SIZE:
        raise Refusal(
            Code.PARAMETER_ERROR, f"a key id has {KeyId.SIZE} bytes, and this one {len(key)}"
        )
    if key[: KeyBase.SIZE] not in _bases(backend):
        raise _unsupported(key)


def _unsupported(key: bytes) -> Refusal:
    """Return the refusal of a key id, which says so where it is EPID's."""
    algorithm = KeyBase.parse(key[: KeyBase.SIZE]).algorithm
    if algorithm in (Algorithm.EPID_UNLINKABLE, Algorithm.EPID_LINKABLE):
        reason = "the client asks for an EPID key; attestation here is by DCAP, with ECDSA keys"
    else:
        reason = f"the client asks for a key (algorithm {algorithm}) that is not here"
    return Refusal(Code.UNSUPPORTED_ATT_KEY_ID, reason)


def _record(kind: type[_Read], data: bytes, name: str) -> _Read:
    """Read a structure of a request."""
    try:
        return kind.parse(data)
    except FormatError as error:
        reason = f"{name} has {kind.SIZE} bytes, and this one {len(data)}"
        raise Refusal(Code.PARAMETER_ERROR, reason) from error
