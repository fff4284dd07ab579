# SPDX-License-Identifier: Apache-2.0
"""Fuzz the quote reader; what it accepts is written back the same."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.dcap.quote import Quote, signed_part
    from ensconce.errors import FormatError


def one_input(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        quote = Quote.parse(data)
        assert bytes(quote) == data
        assert signed_part(quote.header, quote.body) == quote.signed
        assert bytes(quote.qe_report_body) == quote.qe_report


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
