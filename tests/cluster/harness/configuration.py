# SPDX-License-Identifier: Apache-2.0
"""The files that the cluster's components read."""

import base64
import json
from typing import Any

from tests.cluster.harness.certificates import Authority, write_key
from tests.cluster.harness.layout import Cluster, Node

__all__ = ["write_cluster", "write_node"]

DNS_OBJECTS = "coredns.json"
BUSYBOX = "cluster.local/busybox:1"
PAUSE = "cluster.local/pause:1"


def write_cluster(cluster: Cluster) -> None:
    """Write the certificates and what is the cluster's own."""
    cluster.certificates.mkdir(mode=0o700)
    authority = Authority.make(cluster.certificates, "ca")
    control = cluster.nodes[0]
    names = [f"kubernetes.default{end}" for end in ("", ".svc", ".svc.cluster.local")]
    hosts = ["kubernetes", "localhost", *names, cluster.api_address, control.address, "127.0.0.1"]
    authority.issue("kube-apiserver", "kube-apiserver", hosts=hosts)
    # the API server is the kubelets' only client
    authority.issue("kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"])
    Authority.make(cluster.certificates, "front-proxy-ca").issue(
        "front-proxy-client", "front-proxy-client"
    )
    write_key(cluster.certificates / "service-account.key")
    authority.issue("admin", "admin", ["system:masters"])
    _write_kubeconfig(cluster, "admin", cluster.kubeconfig)
    for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns"):
        authority.issue(name, f"system:{name}")
        _write_kubeconfig(cluster, name, cluster.folder / f"{name}.kubeconfig")
    for node in cluster.nodes:
        user = f"system:node:{node.name}"
        authority.issue(node.name, user, ["system:nodes"], [node.name, node.address])
    (cluster.folder / "Corefile").write_text(_corefile(cluster))
    (cluster.folder / DNS_OBJECTS).write_text(json.dumps(_dns_objects(cluster)))


def write_node(node: Node) -> None:
    """Write what `node`'s containerd, kubelet, kube-proxy and CNI plugins read."""
    kubeconfig = node.folder / "kubelet.kubeconfig"
    _write_kubeconfig(node.cluster, node.name, kubeconfig)
    (node.folder / "kubelet.json").write_text(json.dumps(_kubelet(node)))
    (node.folder / "kube-proxy.json").write_text(json.dumps(_kube_proxy(node)))
    (node.folder / "containerd.toml").write_text(_containerd(node))
    (node.folder / "pods.conflist").write_text(json.dumps(_network(node)))


def _write_kubeconfig(cluster: Cluster, user: str, path: Any) -> None:
    def data(name: str) -> str:
        return base64.b64encode((cluster.certificates / name).read_bytes()).decode()

    key = {
        "client-certificate-data": data(f"{user}.crt"),
        "client-key-data": data(f"{user}.key"),
    }
    server = {"server": cluster.server, "certificate-authority-data": data("ca.crt")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster.name, "cluster": server}],
        "users": [{"name": user, "user": key}],
        "contexts": [{"name": cluster.name, "context": {"cluster": cluster.name, "user": user}}],
        "current-context": cluster.name,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))


def _kubelet(node: Node) -> dict[str, Any]:
    certificates = node.cluster.certificates
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certificates / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificates / f"{node.name}.crt"),
        "tlsPrivateKeyFile": str(certificates / f"{node.name}.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [node.cluster.dns],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        # a full disk of the machine is no reason to evict a test's pods
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "featureGates": node.cluster.options.feature_gates,
        "maxPods": 200,
        "oomScoreAdj": 0,  # lowering it takes CAP_SYS_RESOURCE
        "serializeImagePulls": False,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        **node.cluster.options.kubelet,
    }


def _kube_proxy(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(node.cluster.folder / "kube-proxy.kubeconfig")},
        "clusterCIDR": node.cluster.pods,
        # zero leaves alone what belongs to the whole machine
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "hostnameOverride": node.name,
        "iptables": {"minSyncPeriod": "100ms"},
        "mode": "iptables",
        "oomScoreAdj": 0,
    }


def _containerd(node: Node) -> str:
    lines = [
        "version = 2",
        'root = "/var/lib/containerd"',
        'state = "/run/containerd"',
        "[grpc]",
        'address = "/run/containerd/containerd.sock"',
        '[plugins."io.containerd.grpc.v1.cri"]',
        f'sandbox_image = "{PAUSE}"',
        "restrict_oom_score_adj = true",
        "disable_apparmor = true",
        '[plugins."io.containerd.grpc.v1.cri".cni]',
        'bin_dir = "/usr/lib/cni"',
        'conf_dir = "/etc/cni/net.d"',
    ]
    for name, program in {"runc": "runc", **node.cluster.options.runtimes}.items():
        runtime = f'plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}'
        lines += [
            f"[{runtime}]",
            'runtime_type = "io.containerd.runc.v2"',
            f"[{runtime}.options]",
            f"BinaryName = {json.dumps(program)}",
        ]
    return "\n".join([*lines, ""])


def _network(node: Node) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": node.pods}]],
        "dataDir": "/run/cni",
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipam": addresses,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}


def _corefile(cluster: Cluster) -> str:
    return f""".:53 {{
  errors
  ready
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {cluster.folder}/coredns.kubeconfig
    ttl 5
  }}
}}
"""


def _dns_objects(cluster: Cluster) -> dict[str, Any]:
    """Return the objects by which pods find CoreDNS, a process of node1, and its rights."""
    rbac = "rbac.authorization.k8s.io"
    meta = {"name": "system:coredns"}
    ports = [{"name": name, "port": 53, "protocol": name.upper()} for name in ("udp", "tcp")]
    place = {"name": "kube-dns", "namespace": "kube-system"}
    rules = [
        {"apiGroups": [""], "resources": resources, "verbs": ["list", "watch"]}
        for resources in (["services", "pods", "namespaces"],)
    ]
    slices = ["endpointslices"]
    rules.append(
        {"apiGroups": ["discovery.k8s.io"], "resources": slices, "verbs": ["list", "watch"]}
    )
    items = [
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "system:coredns"}],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": place,
            "spec": {"clusterIP": cluster.dns, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**place, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [cluster.nodes[0].address]}],
            "ports": ports,
        },
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}
