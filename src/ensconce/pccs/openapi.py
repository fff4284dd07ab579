# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document, made from the table of endpoints."""

from typing import Any

from ensconce import __version__
from ensconce.pccs.endpoints import ENDPOINTS, Endpoint, Parameter
from ensconce.pccs.statuses import Status

__all__ = ["document"]


def document() -> dict[str, Any]:
    """Return the document, OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        for path, version in endpoint.paths():
            entry = paths.setdefault(path, {})
            entry[endpoint.method.lower()] = _operation(endpoint, path, version)
    for path, media, about in (
        ("/healthz", "text/plain", "Whether the service can read its database."),
        ("/metrics", "text/plain", "Prometheus metrics."),
        ("/openapi.json", "application/json", "This document."),
    ):
        paths[path] = {"get": _plain(path, media, about)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Provisioning certificate caching service",
            "version": __version__,
            "description": "Collateral for DCAP attestation, as Intel's PCCS and PCS serve it.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                name: {"type": "apiKey", "in": "header", "name": f"{name}-token"}
                for name in ("user", "admin")
            }
        },
    }


def _operation(endpoint: Endpoint, path: str, version: int) -> dict[str, Any]:
    """Return what is said of an endpoint at one of its paths."""
    responses = {
        "200": {"description": "Done, or here it is.", "content": {_bare(endpoint.media): {}}}
    }
    if path.endswith("/pckcrl"):
        responses["200"]["content"] = {"application/pkix-crl": {}, "application/x-pem-file": {}}
    for status in (*endpoint.statuses, Status.INTERNAL):
        code = str(status.code)
        responses.setdefault(code, {"description": status.text, "content": {"text/plain": {}}})
    operation: dict[str, Any] = {
        "summary": endpoint.about,
        "operationId": f"{endpoint.method} {path}".lower().replace("/", "_").replace(" ", ""),
        "parameters": [
            _parameter(each)
            for each in endpoint.parameters
            if version == 4 or each.name != "tcbEvaluationDataNumber"
        ],
        "responses": responses,
    }
    if version == 3:
        operation["deprecated"] = True
    if endpoint.token:
        operation["security"] = [{endpoint.token: []}]
    if endpoint.takes_body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    """Return what is said of a query parameter."""
    folded = "".join(
        f"[{char.lower()}{char.upper()}]" if char.isalpha() and not in_class else char
        for char, in_class in _characters(parameter.pattern)
    )
    folded = folded.replace("a-f", "a-fA-F").replace("a-z", "a-zA-Z")
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.about,
        "schema": {"type": "string", "pattern": f"^(?:{folded})$"},
    }


def _characters(pattern: str) -> list[tuple[str, bool]]:
    """Return a pattern's characters, each with whether it is inside a class."""
    found, inside, escaped = [], False, False
    for char in pattern:
        if char == "[" and not escaped:
            inside = True
        found.append((char, inside))
        if char == "]" and not escaped:
            inside = False
        escaped = char == "\\" and not escaped
    return found


def _plain(path: str, media: str, about: str) -> dict[str, Any]:
    """Return what is said of an endpoint that is the service's own."""
    return {
        "summary": about,
        "operationId": path.strip("/").replace(".", "_"),
        "responses": {
            "200": {"description": about, "content": {media: {}}},
            "503": {"description": Status.UNAVAILABLE.text, "content": {"text/plain": {}}},
        },
    }


def _bare(media: str) -> str:
    """Return a media type without its parameters."""
    return media.partition(";")[0]
