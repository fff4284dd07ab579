# SPDX-License-Identifier: Apache-2.0
"""TLS between peers of which one, or each, proves by a quote what it is.

`client_context` makes an `ssl.SSLContext` whose connections verify the server's evidence;
`server_context` one whose certificates carry evidence. What a certificate must be is in
`ensconce.dcap.ratls`; here is only what moves bytes.
"""

from ensconce.ratls.client import (
    AttestedObject,
    AttestedSocket,
    PeerRefused,
    appraisal_of,
    client_context,
)
from ensconce.ratls.credential import Credential, attest_with
from ensconce.ratls.server import server_context
from ensconce.ratls.verifier import Verifier

__all__ = [
    "AttestedObject",
    "AttestedSocket",
    "Credential",
    "PeerRefused",
    "Verifier",
    "appraisal_of",
    "attest_with",
    "client_context",
    "server_context",
]
