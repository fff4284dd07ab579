# SPDX-License-Identifier: Apache-2.0
"""A webhook's process with a CA and settings of its own, asked as API servers ask."""

import base64
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonpatch

ENSCONCE = [sys.executable, "-c", "from ensconce.cli import main; main()"]
SETTINGS = 'epc = ["sgx.intel.com/epc"]\nprovision_pods = ["trusted"]\n'
MUTATE, VALIDATE = "/mutate--v1-pod", "/validate--v1-pod"


@dataclass
class Running:
    """A webhook's process. `folder` has its CA in `ca`, and its settings in `webhook.toml`."""

    process: subprocess.Popen[str]
    folder: Path
    url: str

    @property
    def tls(self) -> ssl.SSLContext:
        """How a client trusts it."""
        return ssl.create_default_context(cafile=self.folder / "ca" / "tls.crt")

    def post(self, body: bytes, path: str = MUTATE) -> httpx.Response:
        """Post a body."""
        return httpx.post(self.url + path, content=body, verify=self.tls, timeout=20)

    def get(self, path: str) -> httpx.Response:
        """Get a path."""
        return httpx.get(self.url + path, verify=self.tls)

    def review(self, pod: Any, namespace: str = "team", path: str = MUTATE) -> dict[str, Any]:
        """Return the response to a review of a pod."""
        answer = self.post(json.dumps(review(pod, namespace)).encode(), path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert (found["apiVersion"], found["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        assert found["response"]["uid"] == "7b1d"
        response: dict[str, Any] = found["response"]
        return response

    def create(self, pod: Any, namespace: str = "team", path: str = MUTATE) -> dict[str, Any]:
        """Return a pod as it is created."""
        response = self.review(pod, namespace, path)
        assert response["allowed"] is True, response
        patch = json.loads(base64.b64decode(response["patch"])) if "patch" in response else []
        made: dict[str, Any] = jsonpatch.apply_patch(pod, patch)
        return made


def review(pod: Any, namespace: str = "team") -> dict[str, Any]:
    """Return an AdmissionReview of a pod's creation."""
    request = {
        "uid": "7b1d",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "namespace": namespace,
        "operation": "CREATE",
        "object": pod,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


@contextmanager
def running(
    folder: Path, settings: str = SETTINGS, drain: float = 0, host: str = "127.0.0.1"
) -> Iterator[Running]:
    """Run a webhook in a folder, on a port of its own."""
    ca, policy = folder / "ca", folder / "webhook.toml"
    if not ca.exists():
        subprocess.run([*ENSCONCE, "webhook", "authority", ca], check=True, capture_output=True)
    policy.write_text(settings)
    words: list[str | Path] = [
        "--authority",
        ca,
        "--policy",
        policy,
        "--host",
        host,
        "--name",
        host,
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*ENSCONCE, "webhook", "serve", *words, "--port", "0", "--drain", str(drain), "--json"],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
            text += line
        yield Running(process, folder, json.loads(text)["url"])
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()
