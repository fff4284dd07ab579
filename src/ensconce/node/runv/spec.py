# SPDX-License-Identifier: Apache-2.0
"""A bundle's config.json, as the records by which the guest's agent makes the container.

What this runtime can't do is refused by the field's name. `Container.trees` are the host's paths
that the container sees, in the order in which the mounts name them (`m0`, `m1`, …).
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensconce.errors import ConfigError
from ensconce.node.runv import seccomp
from ensconce.node.runv.limits import Limits, read_limits
from ensconce.node.runv.options import (
    CAPABILITIES,
    MOUNT_CLEARED,
    MOUNT_FLAGS,
    NAMESPACES,
    PROPAGATION,
    RLIMITS,
)
from ensconce.node.runv.protocol import Tag, number, record, text
from ensconce.node.runv.refusals import refuse_foreign_namespaces, refuse_unsupported

__all__ = ["Container", "container_records", "process_records", "read_bundle"]

_CHARACTER, _BLOCK, _FIFO = 0o020000, 0o060000, 0o010000
_DEVICES = (
    ("/dev/null", 1, 3), ("/dev/zero", 1, 5), ("/dev/full", 1, 7), ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9), ("/dev/tty", 5, 0),
)  # fmt: skip
_COPY_UP = "tmpcopyup"
_IN_GUEST = frozenset({"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"})


@dataclass(frozen=True, slots=True)
class Container:
    """What a bundle asks for."""

    config: Mapping[str, Any]
    root: Path
    trees: list[Path] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations of the bundle, as its engine wrote them."""
        return dict(self.config.get("annotations") or {})

    @property
    def terminal(self) -> bool:
        """Whether the container's process has a terminal."""
        return bool((self.config.get("process") or {}).get("terminal"))

    @property
    def network(self) -> str | None:
        """The path of the network namespace; empty for a new one, None for the host's."""
        for each in self.config["linux"].get("namespaces") or []:
            if each.get("type") == "network":
                return str(each.get("path") or "")
        return None


def read_bundle(bundle: Path) -> Container:
    """Return what a bundle asks for; raises ConfigError where it can't be had."""
    path = bundle / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}; give --bundle") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}; make it anew") from error
    refuse_unsupported(config)
    root = bundle / config["root"]["path"]
    if not root.is_dir():
        raise ConfigError(f"{root}, the container's root.path, is no folder; make it")
    return Container(config, root.resolve(), [], read_limits(config["linux"].get("resources")))


def container_records(container: Container, name: str, pod: tuple[str, int] | None = None) -> bytes:
    """Return the records that make the container; its host paths are added to `trees`.

    `pod` is the id of the pod's first container, and its process here, where the container joins.
    """
    config, linux = container.config, container.config["linux"]
    parts = [record(Tag.CONTAINER, text(name)), record(Tag.ROOT, text(f"{name}/root"))]
    if config["root"].get("readonly"):
        parts.append(record(Tag.ROOT_READONLY))
    for tag, key in ((Tag.HOSTNAME, "hostname"), (Tag.DOMAINNAME, "domainname")):
        if config.get(key):
            parts.append(record(tag, text(config[key])))
    mounts = config.get("mounts") or []
    parts += [record(Tag.MOUNT, _mount(each, name, container.trees)) for each in mounts]
    for tag, key in ((Tag.MASKED, "maskedPaths"), (Tag.READONLY, "readonlyPaths")):
        parts += [record(tag, text(path)) for path in linux.get(key) or []]
    parts += [record(Tag.DEVICE, each) for each in _devices(linux.get("devices") or [])]
    for key, value in (linux.get("sysctl") or {}).items():
        parts.append(record(Tag.SYSCTL, text(key.replace(".", "/"), value)))
    parts += [record(Tag.LIMIT, text(*each)) for each in container.limits.files()]
    shared = refuse_foreign_namespaces(linux, pod[1] if pod else None)
    if pod and shared:
        flags = sum(NAMESPACES[each] for each in shared)
        parts.append(record(Tag.SHARED, number(flags) + text(pod[0])))
    wanted = [each["type"] for each in linux.get("namespaces") or []]
    new = set(wanted) & NAMESPACES.keys() - set(shared)
    flags = sum(NAMESPACES[each] for each in new)
    parts.append(record(Tag.NAMESPACES, number(flags | NAMESPACES["mount"], 0)))
    if linux.get("rootfsPropagation"):
        if linux["rootfsPropagation"] not in PROPAGATION:
            raise ConfigError(
                f"linux.rootfsPropagation {linux['rootfsPropagation']!r} is none; "
                f"use one of {', '.join(PROPAGATION)}"
            )
        parts.append(record(Tag.PROPAGATION, number(PROPAGATION[linux["rootfsPropagation"]], 0)))
    return b"".join(parts)


def _mount(mount: Mapping[str, Any], name: str, trees: list[Path]) -> bytes:
    """Return the payload of one mount's record."""
    flags, propagation, copied, data = 0, 0, False, []
    for option in mount.get("options") or []:
        if option in MOUNT_FLAGS:
            flags |= MOUNT_FLAGS[option]
        elif option in MOUNT_CLEARED:
            flags &= ~MOUNT_CLEARED[option]
        elif option in PROPAGATION:
            propagation = PROPAGATION[option]
        elif option == _COPY_UP and mount.get("type") == "tmpfs":
            copied = True
        else:
            data.append(option)
    kind, source = mount.get("type") or "", mount.get("source") or ""
    shared = kind == "bind" or bool(flags & MOUNT_FLAGS["bind"])
    if shared:
        trees.append(_source(Path(source), mount["destination"]))
        if data:
            raise ConfigError(
                f"mounts: option {data[0]!r} at {mount['destination']} is not supported for a bind "
                "mount; leave it out"
            )
        source = f"{name}/m{len(trees) - 1}"
    elif kind not in _IN_GUEST:
        raise ConfigError(
            f"mounts: type {kind!r} at {mount['destination']} can't be mounted in a sandbox; "
            f"use one of bind, {', '.join(sorted(_IN_GUEST))}"
        )
    kind = "cgroup2" if kind == "cgroup" else kind
    words = text(kind, source or kind, os.path.normpath(mount["destination"]), ",".join(data))
    return number(flags, 0, propagation, int(shared) | int(copied) << 1) + words


def _source(path: Path, destination: str) -> Path:
    """Return a bind mount's source if a guest can have it."""
    if not path.exists():
        raise ConfigError(f"mounts: {path}, for {destination}, does not exist")
    if not path.is_dir() and not path.is_file():
        raise ConfigError(
            f"mounts: {path}, for {destination}, is a socket or device of the host, which a "
            "sandbox does not let in; run the container by another runtime"
        )
    return path.resolve()


def _devices(wanted: Iterable[Mapping[str, Any]]) -> Iterable[bytes]:
    """Return the payloads of the device records: the standard ones, then those asked for."""
    modes = {"c": _CHARACTER, "u": _CHARACTER, "b": _BLOCK, "p": _FIFO}
    asked = {each["path"]: each for each in wanted}
    for path, major, minor in _DEVICES:
        if path not in asked:
            yield number(_CHARACTER | 0o666, major, minor, 0, 0) + text(path)
    for path, each in asked.items():
        mode = modes[each["type"]] | (each.get("fileMode") or 0o666) & 0o7777
        numbers = (each.get("major") or 0, each.get("minor") or 0)
        yield number(mode, *numbers, each.get("uid") or 0, each.get("gid") or 0) + text(path)


def process_records(process: Mapping[str, Any], filters: Mapping[str, Any] | None) -> bytes:
    """Return the records of one process; `filters` is linux.seccomp."""
    user = process.get("user") or {}
    parts = [record(Tag.ARGUMENT, text(each)) for each in process["args"]]
    parts += [record(Tag.ENVIRONMENT, text(each)) for each in process.get("env") or []]
    parts.append(record(Tag.FOLDER, text(process.get("cwd") or "/")))
    parts.append(record(Tag.USER, number(user.get("uid") or 0, user.get("gid") or 0)))
    parts += [record(Tag.GROUP, number(each)) for each in user.get("additionalGids") or []]
    if user.get("umask") is not None:
        parts.append(record(Tag.UMASK, number(user["umask"])))
    for limit in process.get("rlimits") or []:
        parts.append(record(Tag.RLIMIT, _rlimit(limit)))
    if process.get("capabilities") is not None:
        parts.append(record(Tag.CAPABILITIES, _capabilities(process["capabilities"])))
    if process.get("noNewPrivileges"):
        parts.append(record(Tag.NO_NEW_PRIVILEGES))
    if process.get("terminal"):
        size = process.get("consoleSize") or {}
        parts.append(record(Tag.TERMINAL, number(size.get("height", 0), size.get("width", 0))))
    if filters:
        flags, program = seccomp.compile_filter(filters)
        parts.append(record(Tag.FILTER, number(flags) + program))
    if process.get("oomScoreAdj") is not None:
        parts.append(record(Tag.OOM_SCORE, number(process["oomScoreAdj"])))
    return b"".join(parts)


def _rlimit(limit: Mapping[str, Any]) -> bytes:
    """Return the payload of one resource limit."""
    if limit["type"] not in RLIMITS:
        raise ConfigError(f"process.rlimits: {limit['type']!r} is no resource limit of Linux")
    soft, hard = int(limit["soft"]), int(limit["hard"])
    return number(RLIMITS[limit["type"]], soft, soft >> 32, hard, hard >> 32)


def _capabilities(sets: Mapping[str, Any]) -> bytes:
    """Return the five sets in the agent's order."""
    masks = []
    for name in ("bounding", "effective", "inheritable", "permitted", "ambient"):
        # one that Linux does not have (yet) can't be given: as runc, leave it out
        known = [CAPABILITIES[each] for each in sets.get(name) or [] if each in CAPABILITIES]
        masks.append(sum(1 << each for each in set(known)))
    return number(*(part for mask in masks for part in (mask, mask >> 32)))
