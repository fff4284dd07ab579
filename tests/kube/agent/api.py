# SPDX-License-Identifier: Apache-2.0
"""An API server with one node and some pods, over real HTTP: as much as an agent speaks to.

Server-side apply is kept by field: what a manager applied before and leaves out now is removed.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lightkube import AsyncClient, KubeConfig

APPLY = "application/apply-patch+yaml"
NODE = "worker-1"


@dataclass
class Api:
    """What the server keeps; `refuse` is answered to everything while it is set."""

    node: dict[str, Any] = field(
        default_factory=lambda: {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": NODE,
                "uid": "u1",
                "resourceVersion": "1",
                "labels": {"zone": "a"},
            },
            "spec": {"taints": [{"key": "spot", "effect": "NoSchedule"}]},
            "status": {
                "capacity": {"cpu": "2"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )
    pods: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    refuse: int = 0
    url: str = ""

    def client(self) -> AsyncClient:
        config = {
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        return AsyncClient(KubeConfig.from_dict(config), trust_env=False)

    def condition(self, kind: str) -> dict[str, str]:
        found = [each for each in self.node["status"]["conditions"] if each["type"] == kind]
        return dict(found[0]) if found else {}

    def patch(self, part: str, kind: str, body: dict[str, Any]) -> int:
        """Patch the node as the real one does; return an HTTP status."""
        metadata = self.node["metadata"]
        expected = body.get("metadata", {}).get("resourceVersion", metadata["resourceVersion"])
        if expected != metadata["resourceVersion"]:
            return 409
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
        self.writes.append(part)
        if kind != APPLY:
            self.node["spec"]["taints"] = body["spec"]["taints"]
        elif part == "status":
            self._apply_status(body.get("status", {}))
        else:
            _own(metadata["labels"], body["metadata"].get("labels", {}), self._owned("labels"))
        return 200

    def _owned(self, what: str) -> set[str]:
        owned: dict[str, set[str]] = self.__dict__.setdefault("_fields", {})
        return owned.setdefault(what, set())

    def _apply_status(self, status: dict[str, Any]) -> None:
        there = {each["type"]: each for each in self.node["status"]["conditions"]}
        wanted = {each["type"]: each for each in status.get("conditions", [])}
        _own(there, wanted, self._owned("conditions"))
        self.node["status"]["conditions"] = list(there.values())
        _own(self.node["status"]["capacity"], status.get("capacity", {}), self._owned("capacity"))


def _own(there: dict[str, Any], wanted: dict[str, Any], owned: set[str]) -> None:
    for name in owned - wanted.keys():
        there.pop(name, None)
    there.update(wanted)
    owned.clear()
    owned.update(wanted)


@contextlib.contextmanager
def serving(api: Api) -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            if status >= 400:
                body = {"kind": "Status", "code": status, "message": "refused", "reason": "No"}
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _body(self) -> dict[str, Any]:
            return dict(json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0))))

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/api/v1/pods":
                self._answer(
                    api.refuse or 200, {"kind": "PodList", "items": api.pods, "metadata": {}}
                )
            else:
                found = path == f"/api/v1/nodes/{NODE}"
                self._answer(api.refuse or (200 if found else 404), api.node)

        def do_PATCH(self) -> None:
            body = self._body()
            part = "status" if "/status" in self.path else "node"
            status = api.refuse or api.patch(part, self.headers["Content-Type"], body)
            self._answer(status, api.node)

        def do_POST(self) -> None:
            body = self._body()
            if not api.refuse:
                api.events.append(body)
            self._answer(api.refuse or 201, body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
