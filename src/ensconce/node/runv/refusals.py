# SPDX-License-Identifier: Apache-2.0
"""What a bundle may ask for and a sandbox can't give: refused by the field's name."""

from collections.abc import Mapping
from typing import Any

from ensconce.errors import ConfigError

__all__ = ["refuse_foreign_namespaces", "refuse_unsupported"]

_KNOWN = {
    "": {
        "ociVersion", "process", "root", "hostname", "domainname", "mounts", "annotations", "linux",
        "hooks",
    },
    "process": {
        "terminal", "consoleSize", "user", "args", "env", "cwd", "rlimits", "capabilities",
        "noNewPrivileges", "oomScoreAdj", "apparmorProfile", "selinuxLabel",
    },
    "process.user": {"uid", "gid", "umask", "additionalGids", "username"},
    "root": {"path", "readonly"},
    "linux": {
        "namespaces", "devices", "cgroupsPath", "resources", "rootfsPropagation", "seccomp",
        "sysctl", "maskedPaths", "readonlyPaths", "mountLabel",
    },
    "linux.resources": {
        "memory", "cpu", "pids", "unified", "devices", "hugepageLimits", "blockIO", "network",
    },
    "hooks": {"prestart", "createRuntime", "poststart", "poststop"},
    "linux.resources.memory": {
        "limit", "reservation", "swap", "swappiness", "kernel", "kernelTCP", "disableOOMKiller",
        "useHierarchy", "checkBeforeUpdate",
    },
    "linux.resources.cpu": {"shares", "quota", "period", "cpus", "mems", "idle", "burst"},
    "linux.seccomp": {
        "defaultAction", "defaultErrnoRet", "architectures", "flags", "syscalls",
    },
}  # fmt: skip
# Profiles by which engines keep containers from the host; here the machine's border does.
_PROFILES = ("containers-default", "cri-containerd.apparmor.d", "crio-default", "docker-default")
_PRIVATE = frozenset({"mount", "pid", "ipc", "uts", "cgroup", "network"})
_OF_POD = frozenset({"pid", "ipc", "uts"})  # those that a pod's containers may share
_MOUNT = frozenset({"destination", "type", "source", "options"})
_SGX = ("/dev/sgx_enclave", "/dev/sgx_provision", "/dev/sgx/enclave", "/dev/sgx/provision")


def refuse_unsupported(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first field that this runtime does not honour."""
    if not isinstance(config, dict):
        raise ConfigError("config.json must be an object")
    for path, known in _KNOWN.items():
        _refuse_unknown(config, path, known)
    for path in ("root", "linux"):
        if not isinstance(config.get(path), dict):
            raise ConfigError(f"config.json has no {path}; a Linux container needs it")
    version = str(config.get("ociVersion", ""))
    if not version.startswith("1."):
        raise ConfigError(f"ociVersion {version!r} is not supported; 1.x is")
    if not isinstance(config["root"].get("path"), str):
        raise ConfigError("config.json has no root.path; give the container's root folder")
    _refuse_namespaces(config["linux"])
    _refuse_labels(config)
    _refuse_resources(config["linux"].get("resources") or {})
    _refuse_in_mounts(config.get("mounts") or [])
    for device in config["linux"].get("devices") or []:
        if device.get("path") in _SGX:
            raise ConfigError(
                f"linux.devices: {device['path']} can't be given to a microvm; for SGX hardware in "
                "a sandbox use the Kata runtime class"
            )


def _refuse_unknown(config: Mapping[str, Any], path: str, known: set[str]) -> None:
    """Refuse what an object of the configuration has and this runtime does not know."""
    found: Any = config
    for part in path.split(".") if path else []:
        found = found.get(part) or {}
        if not isinstance(found, dict):
            raise ConfigError(f"{path} must be an object")
    for key in found:
        if key not in known and found[key] not in (None, {}, [], ""):
            name = f"{path}.{key}" if path else key
            raise ConfigError(f"{name} is not supported by ensconce-runv; leave it out")


def _refuse_namespaces(linux: Mapping[str, Any]) -> None:
    """Refuse namespaces that a guest does not have."""
    for each in linux.get("namespaces") or []:
        if each.get("type") not in _PRIVATE:
            raise ConfigError(
                f"linux.namespaces: type {each.get('type')!r} is not supported in a sandbox; "
                "run without it (the machine's border is the stronger one)"
            )


def refuse_foreign_namespaces(linux: Mapping[str, Any], pod: int | None) -> list[str]:
    """Return the namespaces that a container shares with its pod, whose process is `pod`.

    Raises ConfigError where a path names any other namespace: a guest has none of the host's.
    """
    shared = []
    for each in linux.get("namespaces") or []:
        kind, path = each["type"], each.get("path") or ""
        if kind == "network" or not path:
            continue
        if kind not in _OF_POD or path != f"/proc/{pod}/ns/{kind}":
            raise ConfigError(
                f"linux.namespaces: path {path!r} of {kind} is not in this sandbox; leave the "
                "path out, or name the process of the container's own pod"
            )
        shared.append(kind)
    return shared


def _refuse_in_mounts(mounts: Any) -> None:
    """Refuse what a mount says besides the fields that are honoured."""
    for each in mounts:
        for key in each:
            if key not in _MOUNT and each[key] not in (None, {}, [], ""):
                raise ConfigError(
                    f"mounts.{key} is not supported by ensconce-runv (at "
                    f"{each.get('destination')}); leave it out"
                )


def _refuse_labels(config: Mapping[str, Any]) -> None:
    """Refuse profiles of security modules that the guest's kernel does not have."""
    process = config.get("process") or {}
    profile = process.get("apparmorProfile") or ""
    if profile and profile != "unconfined" and not profile.startswith(_PROFILES):
        raise ConfigError(
            f"process.apparmorProfile {profile!r} is not known to the sandbox's kernel; use the "
            "engine's own profile, or none"
        )
    for key, value in (
        ("process.selinuxLabel", process.get("selinuxLabel")),
        ("linux.mountLabel", config["linux"].get("mountLabel")),
    ):
        if value:
            raise ConfigError(
                f"{key} is not supported: the sandbox's kernel has no SELinux; run with "
                "--security-opt label=disable"
            )


def _refuse_resources(resources: Mapping[str, Any]) -> None:
    """Refuse limits that neither the guest nor the host's control group would hold."""
    for each in resources.get("hugepageLimits") or []:
        if each.get("limit"):
            raise ConfigError("linux.resources.hugepageLimits: a sandbox has no huge pages")
    memory = resources.get("memory") or {}
    for key in ("kernel", "kernelTCP", "swappiness"):
        if memory.get(key) not in (None, -1, 0):
            raise ConfigError(f"linux.resources.memory.{key} is not supported; leave it out")
    if memory.get("disableOOMKiller"):
        raise ConfigError("linux.resources.memory.disableOOMKiller is not supported; leave it out")
    _refuse_swap(memory)
    for key in ("idle", "burst"):
        if (resources.get("cpu") or {}).get(key):
            raise ConfigError(f"linux.resources.cpu.{key} is not supported; leave it out")
    if any(value for value in (resources.get("blockIO") or {}).values()):
        raise ConfigError("linux.resources.blockIO is not supported; leave it out")
    if any(value for value in (resources.get("network") or {}).values()):
        raise ConfigError("linux.resources.network is not supported; leave it out")


def _refuse_swap(memory: Mapping[str, Any]) -> None:
    """Refuse a limit of memory and swap together that can't be one (-1 and 0 are none)."""
    swap, limit = memory.get("swap") or 0, memory.get("limit") or 0
    if 0 < swap < limit:
        raise ConfigError(
            f"linux.resources.memory.swap {swap} is less than memory.limit {limit}, of which it is "
            "a part; raise it"
        )
    if swap > 0 and limit <= 0:
        raise ConfigError(
            "linux.resources.memory.swap needs memory.limit; give both, or leave both out"
        )
