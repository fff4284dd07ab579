# SPDX-License-Identifier: Apache-2.0
"""Kubernetes manifests: read them, refuse what isn't supported, and say what each container is."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ensconce.errors import ConfigError, FormatError
from ensconce.node.fields import KINDS, check
from ensconce.quantity import parse_quantity
from ensconce.resources import EPC_UNITS, MIB, Resource

__all__ = ["Container", "PodSpec", "epc_of", "pod_spec", "read_manifest"]

WORKLOADS = ("Pod", "Job", "Deployment")
AESM_FOLDER = "/var/run/aesmd"
SANDBOXES = ("runv", "ensconce-vm")
_QUOTE_PROVIDER = "sgx.intel.com/quote-provider"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"\$(\$|\(([A-Za-z0-9_.-]+)\))")
_MOST = 1 << 20
_MOST_PODS = 100
_PLAIN = ("cpu", "memory")
_LABELS = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
_ALIKE = (*EPC_UNITS, Resource.ENCLAVE)


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume in a container: a kind of volume by name, at a path."""

    volume: str
    path: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container; `memory` is in bytes and `cpu` in thousandths, 0 for no limit."""

    name: str
    image: str
    command: tuple[str, ...]
    arguments: tuple[str, ...]
    folder: str
    environment: dict[str, str]
    mounts: tuple[Mount, ...]
    epc_mib: int
    memory: int
    cpu: int
    user: int | None
    group: int | None
    not_root: bool
    read_only: bool
    drops: tuple[str, ...]
    confined: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    """A pod: its containers, and the volumes' manifests by name."""

    containers: tuple[Container, ...]
    first: tuple[Container, ...]
    volumes: dict[str, dict[str, Any]]
    restart: str
    grace: int
    host_network: bool
    sandbox: bool
    aesm: bool


def read_manifest(path: Path, allowed: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return the workloads of a file, each with the ConfigMaps and Secrets that are beside it.

    `allowed` are the host's paths that hostPath volumes may name. Raises ConfigError, OSError.
    """
    with path.open("rb") as file:
        data = file.read(_MOST + 1)
    if len(data) > _MOST:
        raise ConfigError(f"{path} has more than {_MOST} bytes, so it is no manifest for here")
    try:
        found = [each for each in yaml.safe_load_all(data) if each is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    for number, each in enumerate(found, 1):
        _check_document(each, f"{path}" if len(found) == 1 else f"{path}, document {number}")
    data_of = {kind: dict(_data(found, kind)) for kind in ("ConfigMap", "Secret")}
    made = []
    for each in found:
        if each["kind"] in WORKLOADS:
            made.append({"manifest": each, "data": data_of})
            _check_workload(each, data_of, allowed, str(path))
    if not made:
        raise ConfigError(f"{path} has no Pod, Job or Deployment to run; add one")
    return made


def _check_document(each: Any, where: str) -> None:
    """Refuse an object of another kind, or with fields that mean nothing here."""
    if not isinstance(each, dict):
        raise ConfigError(f"{where} is no Kubernetes object; start it with apiVersion and kind")
    version, kind = each.get("apiVersion"), each.get("kind")
    schema = None
    if isinstance(version, str) and isinstance(kind, str):
        schema = KINDS.get((version, kind))
    if schema is None:
        known = ", ".join(f"{kind} ({version})" for version, kind in KINDS)
        raise ConfigError(
            f"{where} is a {kind!r} of {version!r}, which one machine can't run; it runs {known}"
        )
    check(each, {"apiVersion!": str, "kind!": str, **schema}, where)
    metadata = each["metadata"]
    if not _NAME.fullmatch(metadata["name"]):
        raise ConfigError(f"{where}: {metadata['name']!r} is no name; use a-z, 0-9 and -")


def _data(found: list[dict[str, Any]], kind: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the names and texts of ConfigMaps or of Secrets."""
    for each in found:
        if each["kind"] != kind:
            continue
        texts = dict(each.get("data", {}))
        if kind == "Secret":
            try:
                texts = {
                    name: base64.b64decode(text, validate=True).decode()
                    for name, text in texts.items()
                }
            except (binascii.Error, UnicodeDecodeError) as error:
                name = each["metadata"]["name"]
                raise ConfigError(f"Secret {name} has data that is no base64 of text") from error
            texts |= each.get("stringData", {})
        for key in texts:
            if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) or key in (".", ".."):
                raise ConfigError(f"{kind} {each['metadata']['name']} has the key {key!r}; rename")
        yield each["metadata"]["name"], texts


def template(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a workload's pod template, or the pod itself."""
    found: dict[str, Any] = (
        dict(manifest) if manifest["kind"] == "Pod" else manifest["spec"]["template"]
    )
    return found


def _check_workload(
    manifest: dict[str, Any], data: dict[str, Any], allowed: tuple[str, ...], where: str
) -> None:
    """Refuse what the table can't: combinations, references and figures."""
    kind, spec = manifest["kind"], manifest["spec"]
    inner = template(manifest)["spec"]
    always = inner.get("restartPolicy", "Always") == "Always"
    if kind != "Pod" and (kind == "Job") == always:
        words = "Never or OnFailure" if kind == "Job" else "Always"
        raise ConfigError(f"{where}: restartPolicy of a {kind} has to be {words}")
    for name in ("replicas", "completions", "parallelism"):
        if kind != "Pod" and spec.get(name, 1) > _MOST_PODS:
            raise ConfigError(f"{where}: {name} is over {_MOST_PODS}, which one machine can't run")
    labels = template(manifest).get("metadata", {}).get("labels", {})
    wanted = spec["selector"]["matchLabels"] if kind == "Deployment" else {}
    if any(labels.get(name) != value for name, value in wanted.items()):
        raise ConfigError(f"{where}: selector.matchLabels does not match the template's labels")
    unmet = {
        name: value
        for name, value in inner.get("nodeSelector", {}).items()
        if _LABELS.get(name) != value
    }
    if unmet:
        raise ConfigError(f"{where}: nodeSelector asks for {unmet}, which one machine has not")
    for each in inner.get("volumes", []):
        _check_volume(each, allowed, where)
    _check_containers(pod_spec({"manifest": manifest, "data": data}, "name", "uid"), where)


def _check_containers(made: PodSpec, where: str) -> None:
    """Refuse containers without names of their own, and mounts of no volume or at no path."""
    every = (*made.first, *made.containers)
    if len({each.name for each in every}) != len(every) or not made.containers:
        raise ConfigError(f"{where}: containers need names that differ")
    for each in every:
        if not _NAME.fullmatch(each.name):
            raise ConfigError(f"{where}: {each.name!r} is no container's name; use a-z, 0-9 and -")
        for mount in each.mounts:
            if mount.volume not in made.volumes:
                raise ConfigError(
                    f"{where}: container {each.name} mounts {mount.volume!r}, and there is no "
                    "volume of that name"
                )
            if not mount.path.startswith("/") or ":" in mount.path or ".." in mount.path:
                raise ConfigError(f"{where}: mountPath {mount.path!r} is no plain absolute path")


def _check_volume(volume: dict[str, Any], allowed: tuple[str, ...], where: str) -> None:
    """Refuse a volume of no kind or two, and host paths that were not allowed."""
    if not _NAME.fullmatch(volume["name"]):
        raise ConfigError(f"{where}: {volume['name']!r} is no volume's name; use a-z, 0-9 and -")
    kinds = [name for name in volume if name != "name"]
    if len(kinds) != 1:
        raise ConfigError(f"{where}: volume {volume['name']} has to be of one kind")
    if kinds != ["hostPath"]:
        return
    path = volume["hostPath"]["path"]
    if is_aesm(path):
        return
    if ".." in Path(path).parts or not path.startswith("/") or ":" in path:
        raise ConfigError(f"{where}: hostPath {path!r} is no plain absolute path")
    if not any(Path(path).is_relative_to(each) for each in allowed):
        raise ConfigError(
            f"{where}: volume {volume['name']} is the host's {path}; allow that by "
            f"--allow-host-path {path}"
        )


def is_aesm(path: str) -> bool:
    """Return whether a host path is AESM's folder or socket, which is this machine's own here."""
    return path.rstrip("/") in (AESM_FOLDER, f"{AESM_FOLDER}/aesm.socket")


def pod_spec(workload: Mapping[str, Any], name: str, uid: str) -> PodSpec:
    """Return what the pod `name` of a checked workload is. Raises ConfigError."""
    found = template(workload["manifest"])
    spec, metadata = found["spec"], found.get("metadata", {})
    context = _Context(workload, name, uid)
    sandbox = spec.get("runtimeClassName")
    if sandbox is not None and sandbox not in SANDBOXES:
        raise ConfigError(
            f"runtimeClassName {sandbox!r} is none of {', '.join(SANDBOXES)}, which one machine has"
        )
    provider = metadata.get("annotations", {}).get(_QUOTE_PROVIDER, "aesmd")
    if provider != "aesmd":
        raise ConfigError(
            f"the annotation {_QUOTE_PROVIDER} is {provider!r}, and on one machine only `aesmd` "
            "makes quotes"
        )
    return PodSpec(
        containers=tuple(context.container(each) for each in spec["containers"]),
        first=tuple(context.container(each) for each in spec.get("initContainers", [])),
        volumes={each["name"]: each for each in spec.get("volumes", [])},
        restart=spec.get("restartPolicy", "Always"),
        grace=spec.get("terminationGracePeriodSeconds", 30),
        host_network=spec.get("hostNetwork", False),
        sandbox=sandbox is not None,
        aesm=_QUOTE_PROVIDER in metadata.get("annotations", {}),
    )


class _Context:
    """What a pod's containers refer to."""

    def __init__(self, workload: Mapping[str, Any], name: str, uid: str) -> None:
        self._data = workload["data"]
        self._pod = template(workload["manifest"])["spec"].get("securityContext", {})
        self._fields = {
            "metadata.name": name,
            "metadata.namespace": workload["manifest"]["metadata"].get("namespace", "default"),
            "metadata.uid": uid,
        }

    def container(self, spec: Mapping[str, Any]) -> Container:
        """Return a container."""
        environment = self._environment(spec)
        security = {**self._pod, **spec.get("securityContext", {})}
        resources = spec.get("resources", {})
        limits = resources.get("limits", {})
        where = f"container {spec['name']}"
        _check_resources(resources, where)
        return Container(
            name=spec["name"],
            image=spec["image"],
            command=tuple(_expand(each, environment) for each in spec.get("command", ())),
            arguments=tuple(_expand(each, environment) for each in spec.get("args", ())),
            folder=spec.get("workingDir", ""),
            environment=environment,
            mounts=tuple(
                Mount(each["name"], each["mountPath"], each.get("readOnly", False))
                for each in spec.get("volumeMounts", ())
            ),
            epc_mib=epc_of(limits, where),
            memory=_figure(limits.get("memory", 0), f"{where}: memory"),
            cpu=_thousandths(limits.get("cpu", 0), f"{where}: cpu"),
            user=security.get("runAsUser"),
            group=security.get("runAsGroup"),
            not_root=security.get("runAsNonRoot", False),
            read_only=security.get("readOnlyRootFilesystem", False),
            drops=tuple(security.get("capabilities", {}).get("drop", ())),
            confined=security.get("allowPrivilegeEscalation") is False,
        )

    def _environment(self, spec: Mapping[str, Any]) -> dict[str, str]:
        """Return a container's variables."""
        made: dict[str, str] = {}
        for each in spec.get("envFrom", ()):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in each:
                    texts = self._find(kind, each[field])
                    made |= {each.get("prefix", "") + key: text for key, text in texts.items()}
        for each in spec.get("env", ()):
            if "valueFrom" in each:
                text = self._value(each["name"], each["valueFrom"])
                if text is not None:
                    made[each["name"]] = text
            else:
                made[each["name"]] = _expand(each.get("value", ""), made)
        for name in made:
            if not name or "=" in name or "\0" in name:
                raise ConfigError(f"{name!r} is no name of a variable; rename it")
        return made

    def _value(self, name: str, source: Mapping[str, Any]) -> str | None:
        """Return the value that a variable has from somewhere else."""
        if len(source) != 1:
            raise ConfigError(f"the variable {name} has to have its value from one place")
        if "fieldRef" in source:
            return str(self._fields[source["fieldRef"]["fieldPath"]])
        field = next(iter(source))
        kind = "ConfigMap" if field == "configMapKeyRef" else "Secret"
        reference = source[field]
        text: str | None = self._find(kind, reference).get(reference["key"])
        if text is None and not reference.get("optional"):
            raise ConfigError(f"{kind} {reference['name']} has no key {reference['key']}; add it")
        return text

    def _find(self, kind: str, reference: Mapping[str, Any]) -> dict[str, str]:
        """Return the texts of a ConfigMap or Secret of the same file."""
        return texts_of(
            self._data, kind, reference["name"], optional=reference.get("optional", False)
        )


def texts_of(data: Mapping[str, Any], kind: str, name: str, *, optional: bool) -> dict[str, str]:
    """Return the texts of a ConfigMap or Secret. Raises ConfigError."""
    found: dict[str, str] | None = data[kind].get(name)
    if found is None and not optional:
        raise ConfigError(f"{kind} {name} is not in the same file as what refers to it; add it")
    return found or {}


def epc_of(limits: Mapping[str, Any], where: str) -> int:
    """Return the MiB of EPC that limits ask for, under whichever name."""
    asked = {name: _figure(limits[name], f"{where}: {name}") for name in _ALIKE if name in limits}
    enclaves = asked.pop(Resource.ENCLAVE, 0)
    names = [name for name, figure in asked.items() if figure]
    if len(names) > 1:
        raise ConfigError(f"{where} asks for EPC as {' and as '.join(names)}; keep one of them")
    if enclaves and not names:
        raise ConfigError(f"{where} has {Resource.ENCLAVE} and no EPC; add {Resource.EPC_INTEL}")
    return -(-asked[names[0]] * EPC_UNITS[Resource(names[0])] // MIB) if names else 0


def _check_resources(resources: Mapping[str, Any], where: str) -> None:
    """Refuse resources of other names, and EPC whose request is not its limit."""
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for name in (*limits, *requests):
        if name not in _PLAIN and name not in _ALIKE:
            raise ConfigError(
                f"{where} asks for {name}, which one machine does not give; remove it"
            )
    for name in _ALIKE:
        if name in requests and requests[name] != limits.get(name):
            raise ConfigError(f"{where}: the request of {name} has to be its limit")
    for name in _PLAIN:
        if name in requests:
            read = _figure if name == "memory" else _thousandths
            read(requests[name], f"{where}: {name}")


def _figure(value: object, where: str) -> int:
    """Return a whole quantity. Raises ConfigError."""
    try:
        return parse_quantity(value)
    except FormatError as error:
        raise ConfigError(f"{where}: {error}") from error


def _thousandths(value: object, where: str) -> int:
    """Return processors in thousandths. Raises ConfigError."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}m", value):
        return int(value[:-1])
    if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", str(value)):
        return round(float(str(value)) * 1000)
    raise ConfigError(f"{where}: {value!r} is no number of processors; write 0.5 or 500m")


def _expand(text: str, environment: Mapping[str, str]) -> str:
    """Return a text with its $(VARIABLES) filled in, as Kubernetes does."""

    def value(found: "re.Match[str]") -> str:
        if found[1] == "$":
            return "$"
        return environment.get(found[2], found[0])

    return _VARIABLE.sub(value, text)
