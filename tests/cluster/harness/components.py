# SPDX-License-Identifier: Apache-2.0
"""The cluster's processes: how each is started, and starting, ending and restarting them."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.harness.failure import HarnessError
from tests.cluster.harness.layout import Cluster, Node
from tests.cluster.harness.namespaces import DETACHED, enter, first_process

__all__ = ["alive", "last_lines", "names", "start", "stop"]

_CONTROL = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns")
_NODE = ("containerd", "kubelet", "kube-proxy")


def names(node: Node) -> tuple[str, ...]:
    """Return the components of `node`, in the order they start in."""
    return (*_CONTROL, *_NODE) if node.number == 1 else _NODE


def start(node: Node, name: str, programs: Path) -> None:
    """Start a component of `node`; its log is `logs/<name>.log`."""
    log = node.logs / f"{name}.log"
    command = ["sh", "-c", DETACHED, "sh", *_command(node, name, programs)]
    variables = [f"{each}={os.environ[each]}" for each in ("HOME", "PATH") if each in os.environ]
    run = enter(node, ["env", "--ignore-environment", f"LOG={log}", *variables, *command])
    done = subprocess.run(run, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise HarnessError(f"{name} can't be started: {done.stderr.strip()}")
    # the number inside the namespaces; it stays true as long as they do
    (node.folder / f"{name}.pid").write_text(done.stdout.strip())


def stop(node: Node, name: str, signal: str = "TERM", seconds: float = 30) -> None:
    """Send a component a signal and wait for its end."""
    _signal(node, name, signal)
    deadline = time.monotonic() + seconds
    while alive(node, name):
        if time.monotonic() > deadline:
            raise HarnessError(f"{name} didn't end within {seconds:.0f} s of SIG{signal}")
        time.sleep(0.05)


def alive(node: Node, name: str) -> bool:
    """Tell whether a component's process is there."""
    return first_process(node) is not None and _signal(node, name, "0")


def last_lines(node: Node, name: str, lines: int = 12) -> str:
    """Return the end of a component's log."""
    try:
        written = (node.logs / f"{name}.log").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(written[-lines:])


def _signal(node: Node, name: str, signal: str) -> bool:
    if name not in names(node):
        raise HarnessError(
            f"{node.name} has no component {name!r}; it has {', '.join(names(node))}"
        )
    try:
        pid = (node.folder / f"{name}.pid").read_text().strip()
    except FileNotFoundError:
        return False
    run = enter(node, ["sh", "-c", f"kill -{signal} {pid}"])
    return subprocess.run(run, capture_output=True).returncode == 0


def _command(node: Node, name: str, programs: Path) -> Sequence[str]:
    program = str(programs / name)
    match name:
        case "etcd":
            return [program, *_etcd(node.cluster)]
        case "kube-apiserver":
            return [program, *_api_server(node.cluster)]
        case "kube-controller-manager":
            return [program, *_controller_manager(node.cluster)]
        case "kube-scheduler":
            return [program, *_client(node.cluster, name), *_gates(node.cluster)]
        case "coredns":
            return [program, "-conf", str(node.cluster.folder / "Corefile")]
        case "containerd":
            return ["containerd", "--config", str(node.folder / "containerd.toml")]
        case "kube-proxy":
            return [program, f"--config={node.folder / 'kube-proxy.json'}"]
        case _:
            return [program, *_kubelet(node)]


def _etcd(cluster: Cluster) -> list[str]:
    return [
        f"--data-dir={cluster.folder / 'etcd'}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",  # a test's cluster need not outlive the machine
        "--log-level=warn",
    ]


def _api_server(cluster: Cluster) -> list[str]:
    certificates = cluster.certificates
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={cluster.nodes[0].address}",
        f"--service-cluster-ip-range={cluster.services}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        f"--client-ca-file={certificates / 'ca.crt'}",
        *_pair(cluster, "kube-apiserver", "--tls-cert-file", "--tls-private-key-file"),
        *_pair(cluster, "kubelet-client", "--kubelet-client-certificate", "--kubelet-client-key"),
        f"--kubelet-certificate-authority={certificates / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={certificates / 'service-account.key'}",
        f"--service-account-signing-key-file={certificates / 'service-account.key'}",
        f"--requestheader-client-ca-file={certificates / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        *_pair(
            cluster, "front-proxy-client", "--proxy-client-cert-file", "--proxy-client-key-file"
        ),
        *_gates(cluster),
    ]


def _controller_manager(cluster: Cluster) -> list[str]:
    certificates = cluster.certificates
    return [
        *_client(cluster, "kube-controller-manager"),
        f"--root-ca-file={certificates / 'ca.crt'}",
        f"--service-account-private-key-file={certificates / 'service-account.key'}",
        "--use-service-account-credentials",
        *_pair(cluster, "ca", "--cluster-signing-cert-file", "--cluster-signing-key-file"),
        *_gates(cluster),
    ]


def _kubelet(node: Node) -> list[str]:
    return [
        f"--config={node.folder / 'kubelet.json'}",
        f"--kubeconfig={node.folder / 'kubelet.kubeconfig'}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
    ]


def _client(cluster: Cluster, name: str) -> list[str]:
    return [f"--kubeconfig={cluster.folder / name}.kubeconfig", "--leader-elect=false"]


def _pair(cluster: Cluster, name: str, certificate: str, key: str) -> list[str]:
    file = cluster.certificates / name
    return [f"{certificate}={file}.crt", f"{key}={file}.key"]


def _gates(cluster: Cluster) -> list[str]:
    gates = cluster.options.feature_gates
    joined = ",".join(f"{name}={str(on).lower()}" for name, on in gates.items())
    return [f"--feature-gates={joined}"] if gates else []
