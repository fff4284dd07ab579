# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from ensconce.errors import ProtocolError
from ensconce.node.runv.protocol import MOST_DATA, WINDOW, Frame, Kind, Reader, frame, number
from ensconce.node.runv.streams import Process


def process() -> tuple[Process, list[bytes]]:
    sent: list[bytes] = []
    outputs = [os.open(os.devnull, os.O_WRONLY), -1]
    made = Process(1, "box", first=True, input=-1, outputs=outputs, notify=lambda *_: None,
                   send=sent.append)  # fmt: skip
    return made, sent


def test_frames_are_read_however_they_arrive() -> None:
    data = frame(Kind.OUTPUT, 3, b"abc") + frame(Kind.DONE, 4, number(9))
    reader = Reader()
    found = [each for byte in data for each in reader.feed(bytes([byte]))]
    assert found == [Frame(Kind.OUTPUT, 3, b"abc"), Frame(Kind.DONE, 4, number(9))]


@pytest.mark.parametrize(
    "data",
    [
        frame(Kind.OUTPUT, 1, bytes(MOST_DATA + 1)),
        frame(Kind.RUN, 1),
        frame(Kind.EXITED, 1, b"short"),
        frame(Kind.READY, 0, b""),
        number(0, 1, 4711),
    ],
)
def test_what_no_guest_says_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Reader().feed(data)


def test_a_guest_without_credit_is_refused() -> None:
    made, _ = process()
    piece = Frame(Kind.OUTPUT, 1, bytes(MOST_DATA))
    for _ in range(WINDOW // MOST_DATA):
        made.hear(piece)
    with pytest.raises(ProtocolError, match="credit"):
        made.hear(piece)


def test_credit_is_given_for_what_was_written_only() -> None:
    made, sent = process()
    made.hear(Frame(Kind.OUTPUT, 1, bytes(5000)))
    assert sent == []
    made.drain(0)
    assert sent == [frame(Kind.CREDIT, 1, number(4096))]


def test_a_guest_that_takes_input_it_never_got_is_refused() -> None:
    made, _ = process()
    with pytest.raises(ProtocolError, match="more input"):
        made.hear(Frame(Kind.TAKEN, 1, number(1)))


def test_a_guests_text_can_not_command_a_terminal() -> None:
    assert "\x1b" not in Frame(Kind.FAILED, 1, b"\x1b]0;owned\x07").text
