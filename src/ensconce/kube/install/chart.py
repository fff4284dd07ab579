# SPDX-License-Identifier: Apache-2.0
"""The chart that the wheel carries: its values, their schema, and the objects it makes of them."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from ensconce.errors import ConfigError
from ensconce.kube.install.template import Template, render

__all__ = ["Chart", "Values", "chart", "chart_path", "load_values", "merged", "set_value"]

Values = dict[str, Any]
_RELEASE_NAME = "ensconce"
_AUTHORITY = "ensconce.webhookAuthority"  # makes the CA that values have here
_HELMS_OWN = ("NOTES.txt", "_helm.tpl")


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart's parts; `name`, `version` and `app_version` are Chart.yaml's."""

    name: str
    version: str
    app_version: str
    defaults: Values
    schema: Mapping[str, Any]
    templates: list[Template]

    def values(self, given: Values) -> Values:
        """Return the given values over the defaults, checked. Raises ConfigError."""
        values = merged(self.defaults, given)
        check = jsonschema.Draft202012Validator(self.schema)
        errors = sorted(check.iter_errors(values), key=lambda error: list(error.absolute_path))
        if errors:
            found = [f"{_place(error.absolute_path)}: {error.message}" for error in errors]
            raise ConfigError(
                f"the values don't fit the chart's schema: {'; '.join(found)}; "
                "docs/kubernetes.md lists what can be set"
            )
        return values

    def objects(
        self, given: Values, *, namespace: str = "kube-system", service: str = "ensconce"
    ) -> list[dict[str, Any]]:
        """Return the Kubernetes objects for values, in the order in which they are applied.

        `namespace` is the release's own, which the chart takes as there; `service` is who installs.
        """
        root = {
            "Values": self.values(given),
            "Chart": {"Name": self.name, "Version": self.version, "AppVersion": self.app_version},
            "Release": {"Name": _RELEASE_NAME, "Namespace": namespace, "Service": service},
        }
        objects = []
        for text in render(self.templates, root, [_AUTHORITY]).values():
            objects += [each for each in yaml.safe_load_all(text) if each]
        return sorted(objects, key=lambda each: _rank(each["kind"]))


# what others need comes first: Helm's own order for the kinds that the chart has; policies come
# before what they hold, and the webhook is told of when it is there
_ORDER = (
    "Namespace",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "PersistentVolumeClaim",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "RuntimeClass",
    "Service",
    "PodDisruptionBudget",
    "DaemonSet",
    "Deployment",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
)


def _rank(kind: str) -> int:
    """Return a kind's place in the order. Raises ConfigError for a kind that is not in it."""
    if kind not in _ORDER:
        raise ConfigError(f"the chart makes a {kind}, for which no order of installing is known")
    return _ORDER.index(kind)


@cache
def chart() -> Chart:
    """Return the chart of this version."""
    folder = resources.files("ensconce.kube") / "chart"
    about = yaml.safe_load(_text(folder / "Chart.yaml"))
    templates = folder / "templates"
    files = sorted(file.name for file in templates.iterdir() if file.name not in _HELMS_OWN)
    return Chart(
        about["name"],
        about["version"],
        about["appVersion"],
        yaml.safe_load(_text(folder / "values.yaml")),
        yaml.safe_load(_text(folder / "values.schema.json")),
        [Template(_text(templates / name), name) for name in files],
    )


def chart_path() -> Path:
    """Return the chart's folder, for `helm`. Raises ConfigError where it is no folder."""
    folder = resources.files("ensconce.kube") / "chart"
    if not isinstance(folder, Path):
        raise ConfigError("ensconce is installed as an archive; unpack it to give helm the chart")
    return folder


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Values:
    """Return mappings laid one over the other, as Helm does: null takes a default away."""
    values = copy.deepcopy(dict(defaults))
    for name, value in given.items():
        if value is None:
            values.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(values.get(name), dict):
            values[name] = merged(values[name], value)
        else:
            values[name] = copy.deepcopy(value)
    return values


def load_values(files: Iterable[Path], settings: Iterable[str]) -> Values:
    """Return values from files, later ones over earlier, and from `a.b=VALUE` (YAML) over them."""
    values: Values = {}
    for file in files:
        try:
            found = yaml.safe_load(file.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not YAML: {error}") from error
        if found is not None and not isinstance(found, dict):
            raise ConfigError(f"{file} is no mapping of settings; write `name: value` lines")
        values = _laid_over(values, found or {})
    for setting in settings:
        values = _laid_over(values, set_value(setting))
    return values


def _laid_over(values: Values, more: Values) -> Values:
    """Return values over values; null stays, since it takes a default away."""
    for name, value in more.items():
        inner = values.get(name)
        if isinstance(inner, dict) and isinstance(value, dict):
            values[name] = _laid_over(inner, value)
        else:
            values[name] = value
    return values


def set_value(setting: str) -> Values:
    """Return the values that `a.b=VALUE` says. Raises ConfigError."""
    path, equals, text = setting.partition("=")
    names = path.split(".")
    if not equals or not all(names):
        raise ConfigError(f"--set {setting!r} is not name.name=value")
    try:
        value = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {path}: {text!r} is not YAML: {error}") from error
    values: Values = {names[-1]: value}
    for name in reversed(names[:-1]):
        values = {name: values}
    return values


def _place(path: Iterable[Any]) -> str:
    """Return where in the values an error is."""
    return ".".join(map(str, path)) or "the top"


def _text(file: Traversable) -> str:
    """Return a file of the chart."""
    return file.read_text("utf-8")
