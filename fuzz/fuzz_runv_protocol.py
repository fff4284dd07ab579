# SPDX-License-Identifier: Apache-2.0
"""Fuzz what a hostile guest says to the host: frames, and the streams of a process."""

import contextlib
import os
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import ProtocolError
    from ensconce.node.runv.protocol import MOST_DATA, WINDOW, Reader
    from ensconce.node.runv.streams import Process

NOTHING = os.open(os.devnull, os.O_RDWR)


def one_input(data: bytes) -> None:
    said: list[str] = []
    sent: list[bytes] = []
    process = Process(
        stream=1,
        container="box",
        first=True,
        input=-1,
        outputs=[os.dup(NOTHING), os.dup(NOTHING)],
        notify=lambda what, text, _value: said.append(what + text),
        send=sent.append,
    )
    reader = Reader()
    step = data[0] + 1 if data else 1
    with contextlib.suppress(ProtocolError):
        for at in range(1, len(data), step):
            for message in reader.feed(data[at : at + step]):
                assert len(message.payload) <= MOST_DATA
                assert message.text.isprintable()
                process.hear(message)
                assert sum(map(len, process.pending)) <= WINDOW
                if process.pending[0] and step % 2:
                    process.drain(0)
    for each in process.outputs:
        if each >= 0:
            os.close(each)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
