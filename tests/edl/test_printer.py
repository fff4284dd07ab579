# SPDX-License-Identifier: Apache-2.0
"""EDL text written from a model reads back as that model."""

import runpy
from pathlib import Path

from hypothesis import given

from ensconce.edl import Interface, loads
from ensconce.edl.printer import render

STRATEGIES = runpy.run_path(str(Path(__file__).with_name("strategies.py")))


@given(interface=STRATEGIES["interfaces"]())
def test_any_interface_round_trips_through_edl_text(interface: Interface) -> None:
    assert loads(render(interface)) == interface
