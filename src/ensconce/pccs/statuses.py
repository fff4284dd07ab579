# SPDX-License-Identifier: Apache-2.0
"""The answers of a PCCS that are not data: code and text as clients of the vendor's know them."""

from enum import Enum

from ensconce.errors import ProtocolError

__all__ = ["V3_WARNING", "Status", "StatusError"]

V3_WARNING = (
    '299 - "PCS API version 3 is no longer available. Its collateral is served from the cache '
    'only; use version 4"'
)


class Status(Enum):
    """A status: HTTP's code and the body's text."""

    SUCCESS = (200, "Operation successful.")
    INVALID_REQUEST = (400, "Invalid request parameters.")
    UNAUTHORIZED = (401, "Authentication failed.")
    NO_CACHE_DATA = (404, "No cache data for this platform.")
    NOT_FOUND = (404, "Not found.")
    METHOD = (405, "Method not allowed.")
    V3_END_OF_LIFE = (
        410,
        "The Intel PCS API version 3 reached planned EOL. Accordingly, collateral from this API "
        "version cannot be retrieved any longer.",
    )
    EVALUATION_GONE = (410, "The TCB evaluation data number is no longer supported.")
    TOO_LARGE = (413, "Content too large.")
    INTEGRITY = (460, "The integrity of the data can't be verified.")
    PLATFORM_UNKNOWN = (461, "The platform was not found in the cache.")
    CERTS_UNAVAILABLE = (462, "Certificates are not available for certain TCBs.")
    INTERNAL = (500, "Internal server error occurred.")
    UPSTREAM = (502, "Unable to retrieve the collateral from the Intel SGX PCS.")
    UNAVAILABLE = (503, "Server is currently unable to process the request.")

    @property
    def code(self) -> int:
        """HTTP's code."""
        return self.value[0]

    @property
    def text(self) -> str:
        """The body."""
        return self.value[1]


class StatusError(ProtocolError):
    """A request ends with a status; the message is for the log and says why."""

    def __init__(self, status: Status, why: str) -> None:
        super().__init__(why)
        self.status = status
