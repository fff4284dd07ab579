# SPDX-License-Identifier: Apache-2.0
"""Ask AESM whether enclaves are quoted, in a process that ends: what a client of it loads is large.

The agent has a small part of every node's memory for good, and asks once a minute.
"""

import asyncio
import contextlib
import json
import sys
from pathlib import Path

from ensconce.errors import DeviceError
from ensconce.kube.agent.desired import Attestation

__all__ = ["ask_aesm"]

_CODE = "from ensconce.cli import main; main()"
_SECONDS = 30.0


async def ask_aesm(socket: Path) -> Attestation:
    """Return what `ensconce node-agent probe` says. Raises DeviceError where it says nothing."""
    command = (sys.executable, "-c", _CODE, "node-agent", "probe", "--json")
    child = await asyncio.create_subprocess_exec(
        *command, "--aesm-socket", str(socket), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_SECONDS):
            output, _ = await child.communicate()
        said = json.loads(output)
        return Attestation(
            ready=bool(said["ready"]), reason=str(said["reason"]), message=str(said["message"])
        )
    except (TimeoutError, ValueError, KeyError, TypeError) as error:
        raise DeviceError(f"the probe of AESM did not come to an end ({error!r})") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
