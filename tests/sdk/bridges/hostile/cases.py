# SPDX-License-Identifier: Apache-2.0
"""One input, one call: which bridge, what the host does, and whether every rule was kept."""

from tests.sdk.bridges.hostile.draw import Draw
from tests.sdk.bridges.hostile.ecalls import EcallCase
from tests.sdk.bridges.hostile.machine import Machine
from tests.sdk.bridges.hostile.ocalls import OcallCase


def run(machine: Machine, content: bytes) -> EcallCase | OcallCase:
    """Make the call that `content` describes; raises Finding when a bridge breaks a rule."""
    draw = Draw(content)
    calls = machine.interface.ecalls, machine.interface.ocalls
    index = draw.number(sum(map(len, calls)))
    case: EcallCase | OcallCase
    if index < len(calls[0]):
        case = EcallCase(machine, calls[0][index], draw)
    else:
        case = OcallCase(machine, calls[1][index - len(calls[0])], draw)
    case.run()
    return case
