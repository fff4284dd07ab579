# SPDX-License-Identifier: Apache-2.0
"""Manifests: what is refused, and by which name."""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.node.conftest import pod

from ensconce.errors import ConfigError, EnsconceError
from ensconce.node.fields import KINDS, check
from ensconce.node.manifest import epc_of, pod_spec, read_manifest

EXAMPLE = Path(__file__).parents[2] / "examples/01-hello-world/pod.yaml"


def objects(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all objects with fixed fields in a pod."""
    if isinstance(value, dict):
        if where[-1:] not in (("limits",), ("annotations",)):
            yield where
        for name, each in value.items():
            yield from objects(each, (*where, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from objects(each, (*where, index))


WHOLE = yaml.safe_load(EXAMPLE.read_text())
PLACES = list(objects(WHOLE))


def read(tmp_path: Path, *documents: Any, allowed: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return read_manifest(path, allowed)


def test_the_example_asks_for_its_epc_and_runs_without_rights() -> None:
    (found,) = read_manifest(EXAMPLE)
    (container,) = pod_spec(found, "hello-world", "uid").containers
    assert container.epc_mib == 8
    assert (container.not_root, container.read_only, container.drops) == (True, True, ("ALL",))


@settings(deadline=None)
@given(place=st.sampled_from(PLACES), name=st.from_regex(r"[a-z][A-Za-z]{0,12}Q", fullmatch=True))
def test_an_unknown_field_anywhere_is_refused_by_its_name(place: Any, name: str) -> None:
    manifest = copy.deepcopy(WHOLE)
    inner = manifest
    for part in place:
        inner = inner[part]
    inner[name] = "value"
    schema = {"apiVersion!": str, "kind!": str, **KINDS["v1", "Pod"]}
    with pytest.raises(ConfigError, match=rf"\.{name} is not supported on one machine"):
        check(manifest, schema, "file")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(place=st.sampled_from(PLACES), data=st.data(), value=VALUES)
def test_a_field_of_any_value_is_taken_or_refused_in_words(
    place: Any, data: st.DataObject, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    manifest = copy.deepcopy(WHOLE)
    inner = manifest
    for part in place:
        inner = inner[part]
    inner[data.draw(st.sampled_from(sorted(inner)))] = value
    with contextlib.suppress(EnsconceError):
        assert read(tmp_path_factory.getbasetemp(), manifest)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("livenessProbe", {}),
        ("readinessProbe", {}),
        ("lifecycle", {}),
        ("volumeDevices", []),
        ("stdin", True),
    ],
)
def test_what_a_cluster_does_and_one_machine_does_not_is_refused(
    tmp_path: Path, field: str, value: Any
) -> None:
    one = pod("one", "exit 0")
    one["spec"]["containers"][0][field] = value
    with pytest.raises(ConfigError, match=rf"spec\.containers\[0\]\.{field} is not supported"):
        read(tmp_path, one)


@pytest.mark.parametrize(
    ("limits", "mib"),
    [
        ({"alibabacloud.com/sgx_epc_MiB": 3}, 3),
        ({"sgx.intel.com/epc": "10Mi", "sgx.intel.com/enclave": 1}, 10),
        ({"sgx.intel.com/epc": (1 << 20) + 1}, 2),
        ({"kubernetes.azure.com/sgx_epc_mem_in_MiB": "5"}, 5),
        ({"openenclave.io/sgx_epc_MiB": 1}, 1),
        ({"cpu": 1}, 0),
    ],
)
def test_epc_is_asked_for_under_every_name(limits: dict[str, Any], mib: int) -> None:
    assert epc_of(limits, "here") == mib


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"alibabacloud.com/sgx_epc_MiB": 1, "sgx.intel.com/epc": "1Mi"}, "keep one of them"),
        ({"sgx.intel.com/enclave": 1}, "and no EPC"),
        ({"sgx.intel.com/provision": 1}, "does not give"),
        ({"nvidia.com/gpu": 1}, "does not give"),
        ({"sgx.intel.com/epc": "ten"}, "no quantity"),
    ],
)
def test_resources_that_can_not_be_given_are_refused(
    tmp_path: Path, limits: dict[str, Any], words: str
) -> None:
    one = pod("one", "exit 0")
    one["spec"]["containers"][0]["resources"]["limits"] = limits
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, one)


def test_a_path_of_the_host_is_mounted_only_if_it_was_allowed(tmp_path: Path) -> None:
    one = pod("one", "exit 0")
    one["spec"]["volumes"] = [{"name": "v", "hostPath": {"path": "/etc"}}]
    with pytest.raises(ConfigError, match="--allow-host-path /etc"):
        read(tmp_path, one)
    assert read(tmp_path, one, allowed=("/etc",))
    one["spec"]["volumes"] = [{"name": "v", "hostPath": {"path": "/etc/../root"}}]
    with pytest.raises(ConfigError, match="no plain absolute path"):
        read(tmp_path, one, allowed=("/etc",))


@pytest.mark.parametrize(
    "text", ["", "[]", "a: b: c", "kind: Pod", "{}", "&a [*a]", "!!python/x 1"]
)
def test_a_file_that_is_no_manifest_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read_manifest(path)
