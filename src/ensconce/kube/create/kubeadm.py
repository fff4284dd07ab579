# SPDX-License-Identifier: Apache-2.0
"""A cluster on one's own SGX machines, by kubeadm over SSH.

A machine that was prepared bears the creation's identity in a file; without it, or with another's,
nothing is done to a machine, neither at creation nor at deletion.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ensconce.errors import ConfigError, PolicyError, ProtocolError
from ensconce.kube.create import scripts
from ensconce.kube.create.plan import Step
from ensconce.kube.create.preflight import SCRIPT, MachineFacts, faults
from ensconce.kube.create.record import Record, remove_kubeconfig, write_kubeconfig
from ensconce.kube.create.settings import check_networks, make_settings
from ensconce.kube.create.ssh import Ssh

__all__ = ["Kubeadm", "KubeadmSettings"]

_HOST = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9.]{0,251}[a-zA-Z0-9])?(:[0-9]{1,5})?")
_USER = re.compile(r"[a-z_][-a-z0-9_]{0,31}")
_NODE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"([-a-z0-9.]{1,253}/)?[a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?")
_VALUE = re.compile(r"([a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?)?")
_VERSION = re.compile(r"v1\.[0-9]{1,3}\.[0-9]{1,3}[-+.a-z0-9]{0,32}")
_TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")


@dataclass(frozen=True, slots=True)
class KubeadmSettings:
    """The machines; hosts are `name` or `name:port`."""

    control_plane: str
    workers: tuple[str, ...]
    user: str = "root"
    key: str | None = None
    ssh_config: str | None = None
    endpoint: str | None = None
    pod_network: str = "10.244.0.0/16"
    service_network: str = "10.96.0.0/16"
    network_manifest: str | None = None
    emulated: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    kubeconfig: str | None = None

    @property
    def hosts(self) -> tuple[str, ...]:
        """All machines, the control plane first."""
        return (self.control_plane, *self.workers)

    @property
    def api_server(self) -> str:
        """Where the API server is reached, as host:port."""
        return self.endpoint or f"{self.control_plane.partition(':')[0]}:6443"

    def check(self) -> None:
        """Refuse what is no inventory; ConfigError says why."""
        for host in self.hosts:
            if not _HOST.fullmatch(host):
                raise ConfigError(f"{host!r} is no host; write NAME or NAME:PORT")
        if len(set(self.hosts)) != len(self.hosts):
            raise ConfigError("a host is named twice; name each once")
        if not _USER.fullmatch(self.user):
            raise ConfigError(f"{self.user!r} is no user name")
        if ":" not in self.api_server or not _HOST.fullmatch(self.api_server):
            raise ConfigError(f"endpoint {self.endpoint!r} is no HOST:PORT")
        for key, value in self.labels.items():
            if not _LABEL.fullmatch(key) or not _VALUE.fullmatch(value):
                raise ConfigError(f"{key}={value} is no label of Kubernetes")
        if self.network_manifest and not Path(self.network_manifest).is_file():
            raise ConfigError(f"network_manifest {self.network_manifest} is no file")
        check_networks(pod_network=self.pod_network, service_network=self.service_network)


class Kubeadm:
    """The provider; see the module."""

    kind = "kubeadm"

    def __init__(self, name: str, choice: KubeadmSettings) -> None:
        choice.check()
        self.name = name
        self.choice = choice
        self._ssh = Ssh(choice.user, choice.key, choice.ssh_config)

    @classmethod
    def of(cls, name: str, values: Mapping[str, Any]) -> "Kubeadm":
        """Return the provider for plain settings; a manifest's path is made absolute."""
        known = make_settings(KubeadmSettings, values, "kubeadm")
        if known.network_manifest:
            path = str(Path(known.network_manifest).expanduser().absolute())
            known = replace(known, network_manifest=path)
        return cls(name, known)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings as the record keeps them."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self.choice).items()
            if value is not None
        }

    def steps(self) -> tuple[Step, ...]:
        """Return the steps, by machine."""
        steps = [
            Step(
                "preflight",
                f"look at {len(self.choice.hosts)} machines",
                "SGX, driver, kernel, swap, packages; nothing is changed before all are fit",
                changes=False,
            )
        ]
        steps += [
            Step(
                f"prepare {host}",
                f"{host}: install containerd and kubeadm from its package sources, set the kernel",
                "a kubelet needs a runtime, forwarding and bridged packets in iptables",
            )
            for host in self.choice.hosts
        ]
        steps.append(
            Step(
                "init",
                f"{self.choice.control_plane}: kubeadm init",
                "the control plane; kubelets align enclave memory and processors by NUMA node",
            )
        )
        if self.choice.network_manifest:
            manifest = self.choice.network_manifest
            steps.append(Step("network", f"apply {manifest}", "nodes are ready with a network"))
        steps += [
            Step(
                f"join {host}",
                f"{host}: kubeadm join",
                "by a token of 15 minutes and the CA's hash",
            )
            for host in self.choice.workers
        ]
        if self.choice.labels and self.choice.workers:
            steps.append(Step("labels", "label the workers", "as the inventory asks"))
        steps.append(
            Step("kubeconfig", "fetch the administrator's kubeconfig", "`cluster install` needs it")
        )
        return tuple(steps)

    def notes(self) -> tuple[str, ...]:
        """Return what to know before."""
        notes = ["the control plane is one machine: back up its etcd"]
        if not self.choice.network_manifest:
            notes.append("no network_manifest is given: nodes stay NotReady until you apply one")
        if self.choice.emulated:
            notes.append("machines without SGX are taken: what runs there is protected from nobody")
        return tuple(notes)

    def apply(self, step: str, record: Record) -> str:
        """Do one step; a host's part of it can be repeated."""
        verb, _, host = step.partition(" ")
        if verb == "prepare":
            self._run(host, scripts.prepare(record.identity), step)
            return "ready for kubeadm"
        if verb == "join":
            return self._join(host, record)
        act = {
            "preflight": self._preflight,
            "init": self._init,
            "network": self._network,
            "labels": self._labels,
            "kubeconfig": self._kubeconfig,
        }[verb]
        return act(record)

    def _run(self, host: str, script: str, what: str) -> str:
        """Run a script on a machine."""
        return self._ssh.run(host, script, what=what)

    def _preflight(self, record: Record) -> str:
        """Look at all machines; refuse with all that is wrong with any."""
        wrong: list[str] = []
        names: dict[str, str] = {}
        for host in self.choice.hosts:
            facts = MachineFacts.parse(self._run(host, SCRIPT, "preflight"), host)
            enclaves = host in self.choice.workers and not self.choice.emulated
            found = faults(facts, record.identity, enclaves=enclaves)
            if not _NODE.fullmatch(facts.hostname):
                found.append(f"its host name {facts.hostname!r} can't name a node: change it")
            elif facts.hostname in names.values():
                found.append(f"another machine has the name {facts.hostname}: change it")
            wrong += [f"{host}: {each}" for each in found]
            names[host] = facts.hostname
        if wrong:
            raise PolicyError("; ".join(wrong))
        record.note(node_names=names)
        return ", ".join(names.values())

    def _init(self, record: Record) -> str:
        """Start the control plane, or find it running."""
        choice, control = self.choice, self.choice.control_plane
        version = self._run(control, scripts.VERSION, "asking kubeadm's version").strip()
        if not _VERSION.fullmatch(version):
            raise ProtocolError(f"{control}'s kubeadm names no version; look at kubeadm there")
        config = scripts.init_config(
            self.name, version, choice.api_server, choice.pod_network, choice.service_network
        )
        self._run(control, scripts.init(record.identity, config), "kubeadm init")
        return f"Kubernetes {version} answers at {choice.api_server}"

    def _network(self, _record: Record) -> str:
        """Apply the network's manifest."""
        manifest = Path(str(self.choice.network_manifest)).read_text("utf-8")
        self._run(self.choice.control_plane, scripts.kubectl_apply(manifest), "kubectl apply")
        return "applied"

    def _join(self, host: str, record: Record) -> str:
        """Join a worker by a token that ends with the step; the CA is pinned by its key's hash."""
        control = self.choice.control_plane
        pem = self._run(control, "cat /etc/kubernetes/pki/ca.crt\n", "reading the CA")
        token = self._run(control, scripts.TOKEN, "making a token").strip()
        if not _TOKEN.fullmatch(token):
            raise ProtocolError(f"{control} made no token of kubeadm's form; look at kubeadm there")
        try:
            config = scripts.join_config(self.choice.api_server, token, ca_hash(pem, control))
            self._run(host, scripts.join(record.identity, config), "kubeadm join")
        finally:
            self._run(control, scripts.drop_token(token), "removing the token")
        return "joined"

    def _labels(self, record: Record) -> str:
        """Label the workers."""
        names = [record.facts["node_names"][host] for host in self.choice.workers]
        self._run(self.choice.control_plane, scripts.label(names, self.choice.labels), "labels")
        return ", ".join(f"{key}={value}" for key, value in self.choice.labels.items())

    def _kubeconfig(self, record: Record) -> str:
        """Fetch the kubeconfig."""
        control = self.choice.control_plane
        path = write_kubeconfig(
            record,
            self.choice.kubeconfig,
            lambda: self._run(control, "cat /etc/kubernetes/admin.conf\n", "reading admin.conf"),
        )
        return f"{path}; next: KUBECONFIG={path} ensconce cluster install"

    def removals(self, record: Record) -> tuple[Step, ...]:
        """Return the steps back: the kubeconfig, then the machines, the control plane last.

        Machines are all asked: one that does not bear the creation's identity is left alone.
        """
        if not record.done:
            return ()
        steps = [
            Step(
                f"reset {host}",
                f"{host}: kubeadm reset, remove what was installed",
                "only where this creation prepared the machine, and only what was not there before",
            )
            for host in reversed(self.choice.hosts)
        ]
        return (Step("kubeconfig", "remove the kubeconfig", "its cluster ends"), *steps)

    def remove(self, step: str, record: Record) -> str:
        """Take a step back."""
        if step == "kubeconfig":
            return remove_kubeconfig(record)
        host = step.partition(" ")[2]
        return self._run(host, scripts.reset(record.identity), "kubeadm reset").strip() or "clean"


def ca_hash(pem: str, host: str) -> str:
    """Return the pin of a CA as kubeadm has it: SHA-256 of its SubjectPublicKeyInfo."""
    try:
        key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    except ValueError as error:
        raise ProtocolError(
            f"{host} has no CA certificate ({error}); look at kubeadm there"
        ) from error
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(info).hexdigest()}"
