# SPDX-License-Identifier: Apache-2.0
"""Ask AESM whether enclaves here can be quoted."""

from pathlib import Path

from ensconce.aesm.client import Client
from ensconce.aesm.codes import Refusal
from ensconce.errors import EnsconceError
from ensconce.kube.agent.desired import Attestation

__all__ = ["probe_aesm"]

_SECONDS = 10.0


def probe_aesm(socket: Path) -> Attestation:
    """Have AESM certify an attestation key, as every host does before its first quote."""
    client = Client(socket, timeout=_SECONDS, patience=0)
    try:
        client.init_quote()
    except Refusal as error:
        return Attestation(ready=False, reason="AesmRefuses", message=str(error))
    except (EnsconceError, OSError) as error:
        return Attestation(ready=False, reason="AesmDown", message=str(error))
    return Attestation(ready=True, reason="AesmAnswers", message=f"AESM at {socket} makes quotes")
