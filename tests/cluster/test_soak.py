# SPDX-License-Identifier: Apache-2.0
"""Pods come and go by the hundred on an installed cluster, and its node agent stays small.

`PODS=100` churns fewer than 1,000.
"""

import os

import pytest
from tests.cluster.harness.namespace import Namespace
from tests.cluster.installed import APP, Installed

pytestmark = pytest.mark.slow
_AT_ONCE, _BATCH = 20, 50
_MOST = 60 << 10  # KiB
_GROWTH = 4 << 10  # KiB, from the first batch to the last


def job(name: str, pods: int) -> dict[str, object]:
    """Return a Job of pods that each make an enclave and get a quote of it through AESM."""
    container = {
        "name": "main",
        "image": APP,
        "command": ["/app/attested", name],
        "resources": {"limits": {"sgx.intel.com/epc": "4Mi"}},
    }
    pod = {
        "metadata": {"annotations": {"sgx.intel.com/quote-provider": "aesmd"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    spec = {"completions": pods, "parallelism": _AT_ONCE, "backoffLimit": 0, "template": pod}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def churn(namespace: Namespace, name: str, pods: int) -> None:
    """Run a Job and remove it with its pods; every one of them has to succeed."""
    namespace.apply(job(name, pods))
    namespace.kubectl("wait", "--for=condition=complete", f"job/{name}", "--timeout=300s")
    namespace.kubectl("delete", "job", name, "--cascade=foreground", "--timeout=120s")


def test_the_agents_memory_is_flat_while_pods_are_churned(
    installed: Installed, enclaves: Namespace
) -> None:
    total = int(os.environ.get("PODS", "1000"))
    sizes = []
    for first in range(0, total, _BATCH):
        churn(enclaves, f"churn-{first}", min(_BATCH, total - first))
        sizes.append(installed.memory("agent"))
        print(f"{first + _BATCH} pods: agent {sizes[-1]} KiB, {installed.memory('platform')} KiB")
    assert max(sizes) < _MOST, sizes
    assert sizes[-1] - sizes[0] < _GROWTH, sizes
