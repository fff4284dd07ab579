# SPDX-License-Identifier: Apache-2.0
"""What a machine must have to be a node: read by one script, judged by a pure function."""

from dataclasses import dataclass

from ensconce.errors import ProtocolError
from ensconce.kube.names import STATE_FOLDER

__all__ = ["MARKER", "PACKAGES", "SCRIPT", "MachineFacts", "faults"]

MARKER = f"{STATE_FOLDER}/created-by"
PACKAGES = ("containerd", "kubeadm", "kubelet", "kubectl")
_KERNEL = (5, 11)  # Linux has its SGX driver since
_DEVICES = ("/dev/sgx_enclave", "/dev/sgx_provision")

# The kernel hides a processor's SGX from /proc/cpuinfo where firmware or itself disabled it.
SCRIPT = f"""
echo "hostname=$(hostname)"
echo "arch=$(uname -m)"
echo "kernel=$(uname -r)"
for each in sgx sgx_lc; do
  if grep -qw "$each" /proc/cpuinfo; then echo "flag=$each"; fi
done
for each in {" ".join(_DEVICES)}; do
  if [ -c "$each" ]; then echo "device=$each"; fi
done
echo "swaps=$(tail -n +2 /proc/swaps | wc -l)"
if [ -r {MARKER} ]; then echo "marker=$(cat {MARKER})"; fi
if [ -e /etc/kubernetes/kubelet.conf ] || [ -e /etc/kubernetes/manifests/kube-apiserver.yaml ]; then
  echo "member=yes"
fi
if command -v apt-get >/dev/null; then
  for each in {" ".join(PACKAGES)}; do
    if apt-cache policy "$each" | grep -q 'Candidate: [0-9]'; then echo "package=$each"; fi
  done
else
  echo "apt=no"
fi
if [ -e /etc/containerd/config.toml ] && dpkg -s containerd >/dev/null 2>&1 &&
   ! grep -q 'SystemdCgroup = true' /etc/containerd/config.toml &&
   ! grep -qsx containerd {STATE_FOLDER}/installed-packages; then
  echo "cgroup=no"
fi
"""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What the script says of a machine."""

    hostname: str = ""
    arch: str = ""
    kernel: str = ""
    flags: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    swaps: int = 0
    marker: str = ""
    member: bool = False
    apt: bool = True
    cgroup: bool = True

    @classmethod
    def parse(cls, text: str, host: str) -> "MachineFacts":
        """Read the script's lines; ProtocolError for what it does not print."""
        lines: dict[str, list[str]] = {}
        for line in text.splitlines()[:100]:
            key, _, value = line.partition("=")
            lines.setdefault(key, []).append(value.strip()[:200])
        try:
            return cls(
                hostname=lines["hostname"][0].lower(),
                arch=lines["arch"][0],
                kernel=lines["kernel"][0],
                flags=frozenset(lines.get("flag", ())),
                devices=frozenset(lines.get("device", ())),
                packages=frozenset(lines.get("package", ())),
                swaps=int(lines["swaps"][0]),
                marker=lines.get("marker", [""])[0],
                member="member" in lines,
                apt="apt" not in lines,
                cgroup="cgroup" not in lines,
            )
        except (KeyError, ValueError) as error:
            raise ProtocolError(
                f"{host} answered the preflight with something else ({error}); see that its login "
                "shell prints nothing of its own"
            ) from error


def faults(facts: MachineFacts, identity: str, *, enclaves: bool) -> list[str]:
    """Return all that keeps a machine from being a node, each with its mend.

    `enclaves`: SGX enclaves will run there. `identity` is the creation's, for machines of ours.
    """
    found = []
    if facts.arch != "x86_64":
        found.append(f"it is {facts.arch}, and SGX is for x86_64: take another machine")
    if facts.swaps:
        found.append("it swaps: swapoff -a, and take swap out of /etc/fstab")
    if not facts.apt:
        found.append("it has no apt, and other package tools are not known: take Debian or Ubuntu")
    elif missing := [each for each in PACKAGES if each not in facts.packages]:
        found.append(
            f"its package sources lack {', '.join(missing)}: add Kubernetes' for your version "
            "(kubernetes.io, Installing kubeadm)"
        )
    if not facts.cgroup:
        found.append(
            "its containerd lacks SystemdCgroup = true: set it in /etc/containerd/config.toml"
        )
    if facts.marker not in ("", identity):
        found.append("another creation prepared it: delete that cluster first")
    elif facts.member and not facts.marker:
        found.append("it is in a cluster already: kubeadm reset, or take another machine")
    return found + (_sgx_faults(facts) if enclaves else [])


def _sgx_faults(facts: MachineFacts) -> list[str]:
    """Return what keeps SGX enclaves from running."""
    number = tuple(
        int(each) for each in facts.kernel.split("-")[0].split(".")[:2] if each.isdigit()
    )
    if number < _KERNEL:
        return [f"its kernel {facts.kernel} has no SGX driver: take 5.11 or later"]
    if "sgx" not in facts.flags:
        return ["its processor shows no SGX: enable it in the firmware, or set emulated = true"]
    if "sgx_lc" not in facts.flags:
        return ["it has no flexible launch control: set that to unlocked in the firmware"]
    if lacking := [each for each in _DEVICES if each not in facts.devices]:
        return [f"it lacks {', '.join(lacking)}: take a kernel with CONFIG_X86_SGX"]
    return []
