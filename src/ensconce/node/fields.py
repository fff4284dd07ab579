# SPDX-License-Identifier: Apache-2.0
"""The fields of manifests that mean something here, as a table; any other is refused by its name.

A schema is a type, a tuple of allowed values, a one-element list (a list of such), `Texts` (a map
of texts), or a dictionary of fields, in which a name with `!` has to be there.
"""

from typing import Any

from ensconce.errors import ConfigError

__all__ = ["KINDS", "Texts", "check"]


class Texts:
    """A map whose keys and values are texts."""


class Whole:
    """A whole number from 0."""


class Figure:
    """A quantity: a number, or a text that is parsed elsewhere."""


class Figures:
    """A map whose keys are texts and whose values are quantities."""


_LARGEST = (1 << 31) - 1


_METADATA = {"name!": str, "namespace": str, "labels": Texts, "annotations": Texts}
_TEMPLATE_METADATA = {"labels": Texts, "annotations": Texts, "name": str, "namespace": str}
_KEY = {"name!": str, "key!": str, "optional": bool}
_ENV = {
    "name!": str,
    "value": str,
    "valueFrom": {
        "configMapKeyRef": _KEY,
        "secretKeyRef": _KEY,
        "fieldRef": {
            "apiVersion": ("v1",),
            "fieldPath!": ("metadata.name", "metadata.namespace", "metadata.uid"),
        },
    },
}
_NAMED = {"name!": str, "optional": bool}
_FIGURES = {"limits": Figures, "requests": Figures}
_SECURITY = {
    "runAsUser": Whole,
    "runAsGroup": Whole,
    "runAsNonRoot": bool,
    "readOnlyRootFilesystem": bool,
    "allowPrivilegeEscalation": (False,),
    "privileged": (False,),
    "capabilities": {"drop": [str]},
    "seccompProfile": {"type!": ("RuntimeDefault",)},
}
_CONTAINER = {
    "name!": str,
    "image!": str,
    "imagePullPolicy": ("IfNotPresent", "Never"),
    "command": [str],
    "args": [str],
    "workingDir": str,
    "env": [_ENV],
    "envFrom": [{"prefix": str, "configMapRef": _NAMED, "secretRef": _NAMED}],
    "resources": _FIGURES,
    "volumeMounts": [{"name!": str, "mountPath!": str, "readOnly": bool}],
    "securityContext": _SECURITY,
    "ports": [{"name": str, "containerPort!": Whole, "protocol": ("TCP", "UDP")}],
}
_VOLUME = {
    "name!": str,
    "emptyDir": {"medium": ("", "Memory"), "sizeLimit": Figure},
    "hostPath": {"path!": str, "type": ("", "Directory", "File", "Socket", "DirectoryOrCreate")},
    "configMap": {"name!": str, "optional": bool},
    "secret": {"secretName!": str, "optional": bool},
}
_POD = {
    "containers!": [_CONTAINER],
    "initContainers": [_CONTAINER],
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "terminationGracePeriodSeconds": Whole,
    "hostNetwork": bool,
    "runtimeClassName": str,
    "nodeSelector": Texts,
    "tolerations": [
        {
            "key": str,
            "operator": ("Exists", "Equal"),
            "value": str,
            "effect": ("NoSchedule", "NoExecute", "PreferNoSchedule"),
            "tolerationSeconds": Whole,
        }
    ],
    "automountServiceAccountToken": (False,),
    "enableServiceLinks": bool,
    "securityContext": {
        "runAsUser": Whole,
        "runAsGroup": Whole,
        "runAsNonRoot": bool,
        "seccompProfile": {"type!": ("RuntimeDefault",)},
    },
    "volumes": [_VOLUME],
}
_TEMPLATE = {"metadata": _TEMPLATE_METADATA, "spec!": _POD}
KINDS: dict[tuple[str, str], dict[str, Any]] = {
    ("v1", "Pod"): {"metadata!": _METADATA, "spec!": _POD},
    ("batch/v1", "Job"): {
        "metadata!": _METADATA,
        "spec!": {
            "template!": _TEMPLATE,
            "completions": Whole,
            "parallelism": Whole,
            "backoffLimit": Whole,
        },
    },
    ("apps/v1", "Deployment"): {
        "metadata!": _METADATA,
        "spec!": {
            "template!": _TEMPLATE,
            "replicas": Whole,
            "selector!": {"matchLabels!": Texts},
        },
    },
    ("v1", "ConfigMap"): {"metadata!": _METADATA, "data": Texts},
    ("v1", "Secret"): {
        "metadata!": _METADATA,
        "type": ("Opaque",),
        "data": Texts,
        "stringData": Texts,
    },
}


def check(value: Any, schema: Any, where: str) -> None:
    """Check a value against a schema; `where` names it. Raises ConfigError."""
    if isinstance(schema, dict):
        _check_fields(value, schema, where)
    elif isinstance(schema, list):
        for index, each in enumerate(_typed(value, list, where, "a list")):
            check(each, schema[0], f"{where}[{index}]")
    elif isinstance(schema, tuple):
        if not any(value == each and type(value) is type(each) for each in schema):
            allowed = " or ".join(_word(each) for each in schema)
            raise ConfigError(f"{where} is {_word(value)}, and on one machine it can be {allowed}")
    elif schema in (Texts, Figures):
        for key, each in _typed(value, dict, where, "a map").items():
            _typed(key, str, where, "a map whose keys are texts")
            _check_plain(each, str if schema is Texts else Figure, f"{where}.{key}")
    else:
        _check_plain(value, schema, where)


def _check_plain(value: Any, schema: Any, where: str) -> None:
    """Check a value that has no parts."""
    if schema is Whole:
        if type(value) is not int or not 0 <= value <= _LARGEST:
            raise ConfigError(f"{where} is {_word(value)} and has to be a whole number from 0")
    elif schema is Figure:
        if type(value) not in (int, str):
            raise ConfigError(f"{where} is {_word(value)} and has to be a quantity")
    else:
        _typed(value, schema, where, "true or false" if schema is bool else "a text")


def _check_fields(value: Any, schema: dict[str, Any], where: str) -> None:
    """Check an object's fields."""
    _typed(value, dict, where, "an object")
    known = {name.rstrip("!"): (inner, name.endswith("!")) for name, inner in schema.items()}
    for name, each in value.items():
        if name not in known:
            raise ConfigError(
                f"{where}.{name} is not supported on one machine; remove it, or run the manifest "
                "on a cluster"
            )
        check(each, known[name][0], f"{where}.{name}")
    for name, (_, needed) in known.items():
        if needed and name not in value:
            raise ConfigError(f"{where} has no {name}; add it")


def _typed(value: Any, kind: type, where: str, words: str) -> Any:
    """Return a value that is of a type."""
    if type(value) is not kind:
        raise ConfigError(f"{where} is {_word(value)} and has to be {words}")
    return value


def _word(value: Any) -> str:
    """Return a value for a message, cut to a length that one can read."""
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
