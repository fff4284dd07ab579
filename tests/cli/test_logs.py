# SPDX-License-Identifier: Apache-2.0
import json
import logging
import sys

from ensconce.cli.logs import JsonFormatter


def test_a_line_is_one_object_whatever_is_in_it() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, 'say "%s"', ("x\n",), sys.exc_info())
    record.facts = {"uid": 7, "raw": b"\x00"}
    line = JsonFormatter().format(record)
    said = json.loads(line)
    assert "\n" not in line
    assert (said["event"], said["level"], said["uid"]) == ('say "x\n"', "error", 7)
    assert "ValueError: two" in said["exception"]
