# SPDX-License-Identifier: Apache-2.0
"""httpx over RA-TLS: `httpx.Client(transport=AttestedTransport(client_context(verifier)))`.

Needs the `ratls` extra. A refused server is an `httpx.ConnectError` that says why.
"""

import ssl

import httpx

from ensconce.ratls.client import appraisal_of

__all__ = ["AsyncAttestedTransport", "AttestedTransport"]


class AttestedTransport(httpx.HTTPTransport):
    """Sends requests to verified servers, and nothing in the clear."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer; its `extensions["appraisal"]` is what the server proved."""
        _check(request)
        response = super().handle_request(request)
        return _proved(response)


class AsyncAttestedTransport(httpx.AsyncHTTPTransport):
    """The same for `httpx.AsyncClient`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer; its `extensions["appraisal"]` is what the server proved."""
        _check(request)
        response = await super().handle_async_request(request)
        return _proved(response)


def _check(request: httpx.Request) -> None:
    """Refuse to send in the clear, where nobody proves anything."""
    if request.url.scheme != "https":
        raise httpx.UnsupportedProtocol(
            f"{request.url} is not https, so its server would prove nothing", request=request
        )


def _proved(response: httpx.Response) -> httpx.Response:
    """Return a response with what its server proved."""
    stream = response.extensions["network_stream"]
    connection = stream.get_extra_info("socket")
    if not isinstance(connection, ssl.SSLSocket):  # asynchronous ones keep TLS beside it
        connection = stream.get_extra_info("ssl_object")
    response.extensions["appraisal"] = appraisal_of(connection)
    return response
