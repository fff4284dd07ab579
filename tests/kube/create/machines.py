# SPDX-License-Identifier: Apache-2.0
"""Machines behind a real sshd on loopback: roots of their own, in a mount and a UTS namespace.

Programs that would change a machine (kubeadm, apt-get, systemctl, …) are short shell scripts which
keep the state that they would make and write down how they were called; the rest is Debian's.
"""

import os
import shutil
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.kube.create.certificates import self_signed

PROGRAMS = {
    "apt-cache": 'echo "  Candidate: 1.34.4"',
    "apt-get": """
        for each in "$@"; do case $each in containerd|kube*)
          case "$*" in
            *purge*) rm -f /var/lib/packages/$each;;
            *) touch /var/lib/packages/$each;;
          esac;;
        esac; done""",
    "containerd": 'echo "  SystemdCgroup = false"',
    "dpkg": '[ -e "/var/lib/packages/$2" ]',
    "hostname": "cat /etc/hostname",
    "kubeadm": """
        case "$1" in
          version) echo v1.34.4;;
          init) mkdir -p /etc/kubernetes/manifests /etc/kubernetes/pki
            touch /etc/kubernetes/manifests/kube-apiserver.yaml
            grep -q 'topologyManagerPolicy: best-effort' "$3"
            cp "$3" /var/init.yaml; cp /ca.crt /etc/kubernetes/pki/ca.crt
            crash kubeadm-init-late
            echo 'kind: Config' > /etc/kubernetes/admin.conf;;
          token) case "$2" in create) echo abcdef.0123456789abcdef;; esac;;
          join) mkdir -p /etc/kubernetes; touch /etc/kubernetes/bootstrap-kubelet.conf
            stat -c %a "$3" > /var/join.mode; cp "$3" /var/join.yaml
            crash kubeadm-join-late
            touch /etc/kubernetes/kubelet.conf;;
          reset) rm -rf /etc/kubernetes;;
        esac""",
    "kubectl": """
        [ -e /etc/kubernetes/admin.conf ]
        case "$*" in *apply*) cat > /var/applied.yaml;; esac""",
    "modprobe": "",
    "sysctl": "",
    "systemctl": '[ "$*" != "-q is-active kubelet" ] || [ -e /etc/kubernetes/kubelet.conf ]',
}

_WRITTEN_BY_PROGRAMS = ("log/commands", "init.yaml", "join.yaml", "join.mode", "applied.yaml")
_STATE_FOLDERS = ("etc/ssh", "etc/modules-load.d", "etc/sysctl.d", "var/lib/packages", "var/log")
_FOLDERS = (*_STATE_FOLDERS, "run", "tmp", "proc", "dev", "usr", "fake", "crash")

_HEAD = """\
#!/bin/sh
set -eu
crash() { if [ -e "/crash/$1" ]; then rm "/crash/$1"; echo "crash at $1" >&2; exit 9; fi; }
echo "$(basename "$0") $*" >> /var/log/commands
crash "$(basename "$0")-${1:-}"
"""


@dataclass(frozen=True)
class Machine:
    """One machine: its root's folder, its address."""

    root: Path
    host: str

    @property
    def commands(self) -> list[str]:
        """What was called, in order."""
        log = self.root / "var/log/commands"
        return log.read_text().splitlines() if log.exists() else []

    def crash_at(self, point: str) -> None:
        """Let one call of a program fail."""
        (self.root / "crash" / point).touch()

    def files(self) -> set[str]:
        """What there is, but for what the test itself writes."""
        tops = [self.root / "etc", self.root / "var"]
        found = {str(each.relative_to(self.root)) for top in tops for each in top.rglob("*")}
        return found - {f"var/{each}" for each in _WRITTEN_BY_PROGRAMS}


def unusable() -> str:
    """Return why there can be no machines here; empty if there can."""
    if os.geteuid() != 0:
        return "needs root for mount namespaces"
    return "" if shutil.which("sshd", path="/usr/sbin") else "needs Debian's openssh-server"


def make_root(root: Path, name: str, *, sgx: bool) -> None:
    """Make a machine's root folder."""
    for each in _FOLDERS:
        (root / each).mkdir(parents=True)
    for each in ("bin", "sbin", "lib", "lib64"):
        (root / each).symlink_to(f"usr/{each}")
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "cpuinfo").write_text(f"flags\t\t: fpu sse{' sgx sgx_lc' if sgx else ''} fsgsbase\n")
    (root / "swaps").write_text("Filename Type Size Used Priority\n")
    key = ec.generate_private_key(ec.SECP256R1())
    (root / "ca.crt").write_bytes(self_signed(key).public_bytes(Encoding.PEM))
    for program, body in PROGRAMS.items():
        path = root / "fake" / program
        path.write_text(_HEAD + textwrap.dedent(body) + "\n")
        path.chmod(0o755)


def certificate(machine: Machine) -> x509.Certificate:
    """Return a machine's CA."""
    return x509.load_pem_x509_certificate((machine.root / "ca.crt").read_bytes())


_START = """
set -eu
root=$1; port=$2; folder=$3; sgx=$4
mount --make-rprivate /
mount --bind "$root" "$root"
mount --bind /usr "$root/usr"
mount -t proc proc "$root/proc"
mount --bind "$root/cpuinfo" "$root/proc/cpuinfo"
mount --bind "$root/swaps" "$root/proc/swaps"
mount -t tmpfs tmpfs "$root/dev"
for each in null zero urandom; do
  touch "$root/dev/$each"; mount --bind "/dev/$each" "$root/dev/$each"
done
if [ "$sgx" = yes ]; then
  for each in sgx_enclave sgx_provision; do
    touch "$root/dev/$each"; mount --bind /dev/null "$root/dev/$each"
  done
fi
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e -f "$folder/sshd_config"
"""


@contextmanager
def machine(folder: Path, name: str, *, sgx: bool = True) -> Iterator[Machine]:
    """Start a machine; its client's configuration is in `folder`/ssh_config."""
    root = folder / name
    make_root(root, name, sgx=sgx)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = folder / f"{name}.d"
    own.mkdir()
    _keys(folder, own, port)
    (own / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {own}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nPasswordAuthentication no\n"
        f"PermitRootLogin prohibit-password\nUsePAM no\nForceCommand chroot {root} /usr/bin/env -i "
        'PATH=/fake:/usr/sbin:/usr/bin /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    answer = "yes" if sgx else "no"
    start = ["unshare", "-m", "sh", "-c", _START, "sh", str(root), str(port), str(own), answer]
    with (own / "log").open("wb") as log, subprocess.Popen(start, stderr=log) as process:
        try:
            _await(port, process, own / "log")
            yield Machine(root, f"127.0.0.1:{port}")
        finally:
            process.terminate()


def _keys(folder: Path, own: Path, port: int) -> None:
    """Make a host key and the user's, and let the client know the host."""
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"]
    for path in (own / "host", folder / "user"):
        if not path.exists():
            subprocess.run([*make, str(path)], check=True)
    known = folder / "known_hosts"
    with known.open("a") as file:
        file.write(f"[127.0.0.1]:{port} {(own / 'host.pub').read_text()}")
    (folder / "ssh_config").write_text(f"UserKnownHostsFile {known}\nGlobalKnownHostsFile none\n")


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until sshd listens."""
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"sshd did not start: {log.read_text()}")
