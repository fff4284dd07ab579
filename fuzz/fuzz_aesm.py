# SPDX-License-Identifier: Apache-2.0
"""Fuzz AESM messages: requests and what is answered to them, and answers as a client reads them."""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from ensconce.aesm.answers import answer
    from ensconce.aesm.codes import Refusal
    from ensconce.aesm.emulated import EmulatedBackend
    from ensconce.aesm.messages import KINDS
    from ensconce.aesm.wire import MOST_ANSWER, make_answer, parse_answer, parse_request
    from ensconce.errors import ProtocolError

FOLDER = tempfile.TemporaryDirectory()
BACKEND = EmulatedBackend(Path(FOLDER.name) / "platform")


def one_input(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        question = parse_request(data)
        try:
            fields, code = answer(question, BACKEND), 0
        except Refusal as error:
            fields, code = {}, error.code
        made = make_answer(question.kind, code, **fields)
        assert len(made) <= MOST_ANSWER
        assert parse_answer(made, question.kind.name).error_code == code
    for kind in KINDS:
        with contextlib.suppress(ProtocolError):
            parse_answer(data, kind.name)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
