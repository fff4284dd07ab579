# SPDX-License-Identifier: Apache-2.0
"""An admission webhook of somebody else that gives pods SGX resources, as MarbleRun's does."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.cluster.harness import lifecycle
from tests.cluster.harness.layout import Cluster

from ensconce.kube.webhook import Authority

NAME = "zz-injector"  # API servers ask in the order of names


class _Handler(BaseHTTPRequestHandler):
    """Gives the first container 10 MiB of EPC, once."""

    def do_POST(self) -> None:  # the base class's name
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        asked = request["object"]["spec"]["containers"][0].get("resources") or {}
        response = {"uid": request["uid"], "allowed": True}
        if not asked.get("limits"):
            amount = {"sgx.intel.com/epc": "10Mi"}
            value = {"limits": amount, "requests": amount}
            patch = [{"op": "add", "path": "/spec/containers/0/resources", "value": value}]
            coded = base64.b64encode(json.dumps(patch).encode()).decode()
            response |= {"patchType": "JSONPatch", "patch": coded}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        body = json.dumps(review | {"response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 # the base class's name
        """Say nothing."""


@contextmanager
def injecting(cluster: Cluster, folder: Path, namespaces: str) -> Iterator[None]:
    """Run the webhook for pods labelled `inject: yes`, in namespaces that have a label."""
    authority = Authority.make(datetime.now(UTC))
    issued = authority.issue([cluster.gateway], datetime.now(UTC))
    (folder / "server.pem").write_bytes(issued.key + issued.chain)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    with ThreadingHTTPServer((cluster.gateway, 0), _Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"https://{cluster.gateway}:{server.server_port}/"
            made = json.dumps(_configuration(url, authority.pem, namespaces))
            lifecycle.kubectl(cluster, "apply", "--filename=-", content=made)
            yield
        finally:
            kind = "mutatingwebhookconfiguration"
            lifecycle.kubectl(cluster, "delete", kind, NAME, "--ignore-not-found")
            server.shutdown()
            thread.join()


def _configuration(url: str, ca: bytes, namespaces: str) -> object:
    """Return how API servers are told of it."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"]}
    chosen = [{"key": namespaces, "operator": "Exists"}]
    hook = {
        "name": "injector.example.com",
        "clientConfig": {"url": url, "caBundle": base64.b64encode(ca).decode()},
        "rules": [rule | {"resources": ["pods"]}],
        "namespaceSelector": {"matchExpressions": chosen},
        "objectSelector": {"matchLabels": {"inject": "yes"}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    return api | {"metadata": {"name": NAME}, "webhooks": [hook]}
