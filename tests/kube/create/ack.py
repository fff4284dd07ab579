# SPDX-License-Identifier: Apache-2.0
"""The part of Alibaba Cloud's API that cluster creation uses, with state, on a local port.

Shapes of requests and answers are those of the SDK's models of CS 2015-12-15 and ECS 2014-05-26.
Signatures (ACS3-HMAC-SHA256) are checked by an implementation of its own.
"""

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

KEY_ID, SECRET = "LTAI-of-a-test", "the-secret-of-a-test"
REFUSED = {"code": "ErrorClusterNotFound", "message": "no such cluster"}


class Refusal(Exception):
    """An answer of the cloud that says no."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


@dataclass
class Ack:
    """The state; tests edit it by attribute."""

    polls: int = 2  # how often a thing is looked at before it is ready
    stock: dict[str, list[str]] = field(
        default_factory=lambda: {"ecs.g7t.xlarge": ["cn-hangzhou-i"]}
    )
    tee_honoured: bool = True
    refusals: dict[str, Refusal] = field(default_factory=dict)  # by action
    lost: set[int] = field(default_factory=set)  # requests that act, and whose answer is lost
    throttled: set[int] = field(default_factory=set)  # requests that are turned away
    task_error: dict[str, str] | None = None
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    pools: dict[str, dict[str, Any]] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)
    bodies: list[tuple[str, Any]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    url: str = ""
    tokens: dict[str, str] = field(default_factory=dict)

    def answer(self, action: str, path: str, query: dict[str, str], body: Any) -> Any:
        """Act on a request."""
        self.bodies.append((action, body))
        if action in self.refusals:
            raise self.refusals[action]
        parts = path.strip("/").split("/")
        act = getattr(self, re.sub(r"(?<!^)(?=[A-Z])", "_", action).lower())
        return act(parts, query, body)

    def describe_available_resource(self, _: Any, query: dict[str, str], __: Any) -> Any:
        zones = [
            {
                "ZoneId": zone,
                "RegionId": query["RegionId"],
                "Status": "Available",
                "StatusCategory": "WithStock",
            }
            for zone in self.stock.get(query["InstanceType"], [])
        ]
        zones.append(
            {"ZoneId": "cn-hangzhou-z", "Status": "SoldOut", "StatusCategory": "WithoutStock"}
        )
        return {"RequestId": "R", "AvailableZones": {"AvailableZone": zones}}

    def describe_clusters_v1(self, _: Any, query: dict[str, str], __: Any) -> Any:
        found = [each for each in self.clusters.values() if query["name"] in each["name"]]
        size, page = int(query["page_size"]), int(query["page_number"])
        return {
            "clusters": found[(page - 1) * size : page * size],
            "page_info": {"total_count": len(found)},
        }

    def create_cluster(self, _: Any, __: Any, body: Any) -> Any:
        token = body["client_token"]
        if token not in self.tokens:
            name = f"c{len(self.made):032x}"
            self.made.append(name)
            self.tokens[token] = name
            state = {"state": "initial", "polls": self.polls, "current_version": "1.34.3-aliyun.1"}
            self.clusters[name] = body | {"cluster_id": name} | state
        return {"cluster_id": self.tokens[token], "request_id": "R", "task_id": "T-cluster"}

    def describe_cluster_detail(self, parts: list[str], _: Any, __: Any) -> Any:
        cluster = self._cluster(parts[1])
        cluster["polls"] -= 1
        if cluster["polls"] <= 0 and cluster["state"] == "deleting":
            del self.clusters[parts[1]]
            raise Refusal(404, **REFUSED)
        if cluster["polls"] <= 0 and self.task_error is None:
            cluster["state"] = "running"
        return cluster

    def describe_task_info(self, parts: list[str], _: Any, __: Any) -> Any:
        state = "fail" if self.task_error else "running"
        task = {"task_id": parts[1], "state": state, "task_type": "cluster_create"}
        return task | {"current_stage": "prepare-vpc", "error": self.task_error}

    def create_cluster_node_pool(self, parts: list[str], _: Any, body: Any) -> Any:
        if self._cluster(parts[1])["state"] != "running":
            raise Refusal(400, "ErrorClusterState", "the cluster is not running")
        name = f"np{len(self.made):032x}"
        self.made.append(name)
        body["nodepool_info"]["nodepool_id"] = name
        self.pools[name] = body | {
            "polls": self.polls,
            "tee_config": {"tee_enable": self.tee_honoured},
        }
        return {"nodepool_id": name, "request_id": "R", "task_id": "T-pool"}

    def describe_cluster_node_pools(self, parts: list[str], _: Any, __: Any) -> Any:
        self._cluster(parts[1])
        return {"nodepools": list(self.pools.values())}

    def describe_cluster_node_pool_detail(self, parts: list[str], _: Any, __: Any) -> Any:
        pool = self.pools.get(parts[3])
        if pool is None:
            raise Refusal(404, "ErrorNodePoolNotFound", "no such node pool")
        pool["polls"] -= 1
        if pool["polls"] <= 0 and pool.get("deleting"):
            del self.pools[parts[3]]
            raise Refusal(404, "ErrorNodePoolNotFound", "no such node pool")
        size = pool["scaling_group"]["desired_size"]
        ready = pool["polls"] <= 0
        state = "deleting" if pool.get("deleting") else "active" if ready else "scaling"
        status = {
            "state": state,
            "healthy_nodes": size if ready else 0,
            "total_nodes": size,
            "failed_nodes": 0,
        }
        return pool | {"status": status}

    def describe_cluster_user_kubeconfig(
        self, parts: list[str], query: dict[str, str], _: Any
    ) -> Any:
        self._cluster(parts[1])
        return {"config": f"kind: Config # private {query['PrivateIpAddress']}\n"}

    def delete_cluster_nodepool(self, parts: list[str], query: dict[str, str], _: Any) -> Any:
        if query.get("force", "").lower() != "true":
            raise Refusal(400, "ErrorNodePoolNotEmpty", "the node pool has nodes")
        self.pools[parts[3]] |= {"deleting": True, "polls": self.polls}
        return {"request_id": "R", "task_id": "T-delete"}

    def delete_cluster(self, parts: list[str], _: Any, __: Any) -> Any:
        self._cluster(parts[1]).update(state="deleting", polls=self.polls)
        return {"cluster_id": parts[1], "request_id": "R", "task_id": "T-delete"}

    def _cluster(self, name: str) -> dict[str, Any]:
        if name not in self.clusters:
            raise Refusal(404, **REFUSED)
        return self.clusters[name]


def signature_fault(
    method: str, target: str, headers: dict[str, str], payload: bytes
) -> str | None:
    """Return what is wrong with a request's signature; None if nothing is."""
    match = re.fullmatch(
        r"ACS3-HMAC-SHA256 Credential=([^,]+),SignedHeaders=([^,]+),Signature=([0-9a-f]{64})",
        headers.get("authorization", ""),
    )
    if match is None or match[1] != KEY_ID:
        return "no signature by the test's key"
    if headers["x-acs-content-sha256"] != hashlib.sha256(payload).hexdigest():
        return "the payload's hash differs"
    parts = urlsplit(target)
    pairs = sorted(parse_qsl(parts.query, keep_blank_values=True))
    signed = match[2].split(";")
    if not {"host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce"} <= set(signed):
        return "a header is not signed"
    canonical = "\n".join(
        [
            method,
            parts.path or "/",
            "&".join(f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in pairs),
            *(f"{name}:{headers[name].strip()}" for name in signed),
            "",
            match[2],
            headers["x-acs-content-sha256"],
        ]
    )
    text = f"ACS3-HMAC-SHA256\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    expected = hmac.new(SECRET.encode(), text.encode(), "sha256").hexdigest()
    return None if hmac.compare_digest(expected, match[3]) else "the signature differs"


@contextmanager
def served(ack: Ack) -> Iterator[Ack]:
    """Serve the state on a local port."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do(self) -> None:
            payload = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            action = headers["x-acs-action"]
            number = len(ack.actions)
            ack.actions.append(action)
            fault = signature_fault(self.command, self.path, headers, payload)
            if fault:
                self.reply(
                    403, {"code": "SignatureDoesNotMatch", "message": fault, "requestId": "R-sig"}
                )
                return
            if number in ack.throttled:
                self.reply(
                    429, {"code": "Throttling.User", "message": "too many", "requestId": "R-many"}
                )
                return
            parts = urlsplit(self.path)
            body = json.loads(payload) if payload else None
            try:
                answer = ack.answer(action, parts.path, dict(parse_qsl(parts.query)), body)
            except Refusal as error:
                self.reply(
                    error.status,
                    {"code": error.code, "message": error.message, "requestId": f"R-{action}"},
                )
                return
            if number in ack.lost:
                self.close_connection = True
                return
            self.reply(200, answer)

        do_GET = do_POST = do_DELETE = do  # noqa: N815  # the names of http.server

        def reply(self, status: int, answer: Any) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        ack.url = f"http://127.0.0.1:{server.server_port}"
        yield ack
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
