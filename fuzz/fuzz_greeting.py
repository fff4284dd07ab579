# SPDX-License-Identifier: Apache-2.0
"""Fuzz what host processes say to the platform service: the greeting, and requests for quotes."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import ProtocolError
    from ensconce.machine.identity import Identity
    from ensconce.platform.quote_session import Quoting
    from ensconce.platform.quoting import EmulatedPlatform
    from ensconce.platform.wire import HELLO_SIZE, Hello, QuoteRequest, QuoteStatus, QuoteTopic

_QUOTING = Quoting(lambda: EmulatedPlatform.of(Identity.generate()).quoter)


def one_input(data: bytes) -> None:
    for greeting in (data, b"ensc\1\0\0\0" + data[: HELLO_SIZE - 8].ljust(HELLO_SIZE - 8, b"\0")):
        with contextlib.suppress(ProtocolError):
            Hello.parse(greeting)
    size = QuoteRequest.SIZE
    for request in (data, data[:1] + bytes(7) + data[1 : size - 7].ljust(size - 8, b"\0")):
        with contextlib.suppress(ProtocolError):
            asked = QuoteRequest.parse(request)
            assert bytes(asked) == request
            status, content = _QUOTING.answer(asked)
            assert (status is QuoteStatus.DONE) == bool(content)
            assert asked.topic is QuoteTopic.DESCRIBE or status is QuoteStatus.BAD_REPORT


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
