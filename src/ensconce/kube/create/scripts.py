# SPDX-License-Identifier: Apache-2.0
"""The shell scripts that make a machine a node and take that back; each may be run again.

They are run by `sh -eu` as root, from standard input. Values in them are checked settings, quoted.
"""

from collections.abc import Mapping, Sequence
from shlex import quote

import yaml

from ensconce.kube.create.preflight import MARKER, PACKAGES
from ensconce.kube.names import STATE_FOLDER

__all__ = [
    "TOKEN",
    "VERSION",
    "drop_token",
    "init",
    "init_config",
    "join",
    "join_config",
    "kubectl_apply",
    "label",
    "prepare",
    "reset",
]

_SOCKET = "unix:///run/containerd/containerd.sock"
_CONFIG = "/run/ensconce-kubeadm.yaml"  # a tmpfs: a token in it never meets a disk
_INSTALLED = f"{STATE_FOLDER}/installed-packages"
_KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
_TOKEN_LIFE = "15m0s"  # noqa: S105  # a time

VERSION = "kubeadm version -o short\n"
TOKEN = f"kubeadm token create --ttl {_TOKEN_LIFE}\n"


def prepare(identity: str) -> str:
    """Return the script that installs and sets what a kubelet needs.

    What is about to be installed is written down first: deletion removes that and no more.
    """
    return f"""
mkdir -p {STATE_FOLDER}
if [ -e {MARKER} ] && [ "$(cat {MARKER})" != {quote(identity)} ]; then
  echo "another creation prepared this machine" >&2; exit 1
fi
echo {quote(identity)} > {MARKER}
missing=""
for each in {" ".join(PACKAGES)}; do
  if ! dpkg -s "$each" >/dev/null 2>&1; then
    missing="$missing $each"
    grep -qsx "$each" {_INSTALLED} || echo "$each" >> {_INSTALLED}
  fi
done
if [ -n "$missing" ]; then
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >&2
fi
if grep -qsx containerd {_INSTALLED}; then
  mkdir -p /etc/containerd
  containerd config default | sed 's/SystemdCgroup = false/SystemdCgroup = true/' \\
    > /etc/containerd/config.toml
fi
printf 'overlay\\nbr_netfilter\\n' > /etc/modules-load.d/ensconce.conf
modprobe overlay
modprobe br_netfilter
printf 'net.ipv4.ip_forward = 1\\nnet.bridge.bridge-nf-call-iptables = 1\\n' \\
  > /etc/sysctl.d/90-ensconce.conf
sysctl -q --load=/etc/sysctl.d/90-ensconce.conf
systemctl enable -q containerd kubelet
systemctl restart containerd
"""


def init(identity: str, config: str) -> str:
    """Return the script that starts a control plane, unless it runs."""
    return f"""
{_ours(identity)}
if {_KUBECTL} get --raw /readyz >/dev/null 2>&1; then exit 0; fi
if [ -e /etc/kubernetes/manifests/kube-apiserver.yaml ]; then
  kubeadm reset --force --cri-socket {_SOCKET} >&2
fi
{_with_config(config)}
kubeadm init --config {_CONFIG} --skip-token-print >&2
"""


def join(identity: str, config: str) -> str:
    """Return the script that joins a worker, unless it has joined."""
    return f"""
{_ours(identity)}
if [ -e /etc/kubernetes/kubelet.conf ] && systemctl -q is-active kubelet; then exit 0; fi
if [ -e /etc/kubernetes/kubelet.conf ] || [ -e /etc/kubernetes/bootstrap-kubelet.conf ]; then
  kubeadm reset --force --cri-socket {_SOCKET} >&2
fi
{_with_config(config)}
kubeadm join --config {_CONFIG} >&2
"""


def reset(identity: str) -> str:
    """Return the script that takes a machine out, if this creation prepared it."""
    return f"""
if [ ! -e {MARKER} ] || [ "$(cat {MARKER})" != {quote(identity)} ]; then
  echo "not ours, left as it is"; exit 0
fi
if command -v kubeadm >/dev/null; then
  kubeadm reset --force --cri-socket {_SOCKET} >&2
fi
rm -f /etc/modules-load.d/ensconce.conf /etc/sysctl.d/90-ensconce.conf {_CONFIG}
if [ -e {_INSTALLED} ]; then
  if grep -qx containerd {_INSTALLED}; then rm -f /etc/containerd/config.toml; fi
  DEBIAN_FRONTEND=noninteractive apt-get -qq purge -y $(cat {_INSTALLED}) >&2
  rm -f {_INSTALLED}
fi
rm -f {MARKER}
"""


def kubectl_apply(manifest: str) -> str:
    """Return the script that applies a manifest on the control plane."""
    return _heredoc(f"{_KUBECTL} apply -f - >&2", manifest)


def label(nodes: Sequence[str], labels: Mapping[str, str]) -> str:
    """Return the script that labels nodes."""
    pairs = " ".join(quote(f"{key}={value}") for key, value in labels.items())
    return f"{_KUBECTL} label node {' '.join(map(quote, nodes))} --overwrite {pairs} >&2\n"


def drop_token(token: str) -> str:
    """Return the script that ends a token before its time."""
    return f"kubeadm token delete {quote(token)} >&2\n"


def init_config(name: str, version: str, endpoint: str, pods: str, services: str) -> str:
    """Return kubeadm's configuration of a control plane, and its kubelets' (v1beta4)."""
    return _documents(
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "bootstrapTokens": [{"ttl": _TOKEN_LIFE, "description": "of kubeadm init, unused"}],
            "nodeRegistration": {"criSocket": _SOCKET},
        },
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "clusterName": name,
            "kubernetesVersion": version,  # else kubeadm asks the internet for the newest
            "controlPlaneEndpoint": endpoint,
            "networking": {"podSubnet": pods, "serviceSubnet": services},
        },
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "systemd",
            # enclave memory beside the processors and devices that use it
            "topologyManagerPolicy": "best-effort",
        },
    )


def join_config(endpoint: str, token: str, pin: str) -> str:
    """Return kubeadm's configuration of a worker (v1beta4)."""
    return _documents(
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "JoinConfiguration",
            "nodeRegistration": {"criSocket": _SOCKET},
            "discovery": {
                "bootstrapToken": {
                    "apiServerEndpoint": endpoint,
                    "token": token,
                    "caCertHashes": [pin],
                }
            },
        }
    )


def _documents(*documents: Mapping[str, object]) -> str:
    """Return YAML documents as one text."""
    return str(yaml.safe_dump_all(documents, sort_keys=False))


def _ours(identity: str) -> str:
    """Return lines that refuse a machine which this creation did not prepare."""
    return f"""if [ "$(cat {MARKER} 2>/dev/null)" != {quote(identity)} ]; then
  echo "this creation did not prepare the machine" >&2; exit 1
fi"""


def _with_config(config: str) -> str:
    """Return lines that keep kubeadm's configuration for the rest of the script, for root only."""
    return f"umask 077\ntrap 'rm -f {_CONFIG}' EXIT\n" + _heredoc(f"cat > {_CONFIG}", config)


def _heredoc(command: str, text: str) -> str:
    """Return a command that reads a text, which is not looked at by the shell."""
    end = "ENSCONCE_END"
    while end in text:
        end += "_"
    return f"{command} <<'{end}'\n{text.rstrip()}\n{end}\n"
