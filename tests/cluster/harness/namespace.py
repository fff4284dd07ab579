# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes namespace for one test: making objects, waiting, and telling what went wrong."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.cluster.harness import lifecycle
from tests.cluster.harness.configuration import BUSYBOX
from tests.cluster.harness.failure import HarnessError
from tests.cluster.harness.layout import Cluster

__all__ = ["Namespace", "fresh_namespace", "wait_until"]


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace of `cluster`; its methods speak of objects in it."""

    cluster: Cluster
    name: str

    def kubectl(self, *arguments: str, content: str | None = None) -> str:
        """Run kubectl in this namespace and return what it prints."""
        return lifecycle.kubectl(
            self.cluster, f"--namespace={self.name}", *arguments, content=content
        )

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object."""
        got: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "--output=json"))
        return got

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects, server side."""
        for each in objects:
            self.kubectl("apply", "--server-side", "--filename=-", content=json.dumps(each))

    def pod(
        self,
        name: str,
        command: Sequence[str],
        *,
        image: str = BUSYBOX,
        limits: dict[str, str] | None = None,
        **spec: Any,
    ) -> None:
        """Make a pod of one container, `main`, that runs `command` once."""
        container = {
            "name": "main",
            "image": image,
            "imagePullPolicy": "Never",
            "command": [*command],
            "resources": {"limits": limits or {}},
        }
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": name}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [container],
                    **spec,
                },
            }
        )

    def phase(self, pod: str) -> str:
        """Return a pod's phase: Pending, Running, Succeeded or Failed."""
        return str(self.get("pod", pod)["status"].get("phase"))

    def until_phase(self, pod: str, phase: str, seconds: float = 60) -> None:
        """Wait until a pod has this phase."""
        self.until(lambda: self.phase(pod) == phase, f"pod {pod} is {phase}", seconds)

    def until(self, true: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until `true`, a question that may fail meanwhile.

        Raises AssertionError that says what was waited for, and what the pods are doing instead.
        """
        try:
            wait_until(true, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.diagnosis()}") from None

    def diagnosis(self) -> str:
        """Return the pods' descriptions, with their events, and the ends of their logs."""
        told = [self.kubectl("describe", "pods")]
        for name in self.kubectl("get", "pods", "--output=name").split():
            for previous in ("false", "true"):
                options = ("--all-containers", "--prefix", "--tail=20", f"--previous={previous}")
                try:
                    told.append(self.kubectl("logs", name, *options))
                except HarnessError as error:
                    told.append(str(error))
        return "\n".join(told)


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until `true`, a question that may fail meanwhile, or raise AssertionError."""
    deadline = time.monotonic() + seconds
    said = ""
    while time.monotonic() < deadline:
        try:
            if true():
                return
        except HarnessError as error:
            said = f" ({error})"
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} s: {what}{said}")


@contextmanager
def fresh_namespace(cluster: Cluster, name: str) -> Iterator[Namespace]:
    """Make a namespace, and remove it when all of its pods have ended."""
    namespace = Namespace(cluster, name)
    namespace.kubectl("create", "namespace", name)
    try:
        account = ("get", "serviceaccount", "default")
        namespace.until(lambda: bool(namespace.kubectl(*account)), "it has its service account")
        yield namespace
    finally:
        namespace.kubectl("delete", "pods", "--all", "--grace-period=1", "--timeout=60s")
        namespace.kubectl("delete", "namespace", name, "--wait=false")
