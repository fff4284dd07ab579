# SPDX-License-Identifier: Apache-2.0
"""What holds of every pod, whatever is in it."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from ensconce.kube.names import (
    EMULATED_TAINT,
    EPC_ANNOTATION,
    QUOTE_PROVIDER_ANNOTATION,
    Resource,
)
from ensconce.kube.webhook import Mutation, Policy, Refusal, Where, mutate, validate
from ensconce.kube.webhook.policy import EPC_UNITS

names = st.sampled_from(["a", "b", "aesmd"])
amounts = st.sampled_from(["0", "1", "10", "2Mi", "3145728", "1500k", "1500m"])
plain = st.dictionaries(st.sampled_from(["cpu", "memory"]), st.just("1"))
sgx = st.dictionaries(st.sampled_from(list(Resource)), amounts, max_size=2)
mounts = st.fixed_dictionaries({"mountPath": st.sampled_from(["/var/run/aesmd", "/x"])})
tolerations = st.fixed_dictionaries(
    {},
    optional={
        "key": st.sampled_from([EMULATED_TAINT, "spot"]),
        "operator": st.sampled_from(["Exists", "Equal"]),
        "value": st.sampled_from(["true", "no"]),
        "effect": st.sampled_from(["NoSchedule", "NoExecute"]),
    },
)
wheres = st.builds(Where, st.sampled_from(["x", "y"]), st.booleans())
policies = st.builds(
    Policy,
    epc=st.lists(st.sampled_from(list(EPC_UNITS)), min_size=1, max_size=2).map(tuple),
    provision_pods=st.sampled_from([(), ("x",), ("*",)]),
    require_epc=st.booleans(),
    emulated_nodes=st.booleans(),
)


@st.composite
def containers(draw: st.DrawFn, resources: st.SearchStrategy[Any]) -> dict[str, Any]:
    asked = {str(name): amount for name, amount in draw(resources).items()}
    optional = {
        "volumeMounts": st.lists(mounts, max_size=2),
        "env": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["SGX_AESM_ADDR", "A"])})),
        "restartPolicy": st.just("Always"),
    }
    base = st.fixed_dictionaries({"name": names}, optional=optional)
    return draw(base) | {"resources": {"limits": asked, "requests": dict(asked)}}


def pods(resources: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    annotations = {QUOTE_PROVIDER_ANNOTATION: names, EPC_ANNOTATION: st.just("7Mi")}
    listed = st.lists(containers(resources), min_size=1, max_size=3)
    spec = {
        "initContainers": st.lists(containers(resources), max_size=2),
        "tolerations": st.lists(tolerations, max_size=2),
        "nodeName": st.just("n"),
        "volumes": st.just([{"name": "aesmd-socket"}]),
    }
    metadata = {"annotations": st.fixed_dictionaries({}, optional=annotations)}
    return st.fixed_dictionaries(
        {"spec": st.fixed_dictionaries({"containers": listed}, optional=spec)},
        optional={"metadata": st.fixed_dictionaries({}, optional=metadata)},
    )


@given(pods(plain), wheres, policies)
def test_a_pod_without_sgx_is_never_changed(pod: Any, where: Where, policy: Policy) -> None:
    assert mutate(pod, where, policy) == Mutation()
    assert validate(pod, where, policy) == Mutation()


@given(pods(sgx), wheres, policies)
def test_patches_apply_and_what_comes_out_is_left_alone(
    pod: Any, where: Where, policy: Policy
) -> None:
    before = copy.deepcopy(pod)
    result = mutate(pod, where, policy)
    assert pod == before
    if isinstance(result, Refusal):
        assert result.message
        return
    after = jsonpatch.apply_patch(pod, json.loads(json.dumps(result.patch)))
    assert mutate(after, where, policy) == Mutation(warnings=tuple(_lasting(result)))
    assert validate(after, where, policy) == Mutation()


def _lasting(result: Mutation) -> list[str]:
    """Return the warnings that do not go away by what the webhook does."""
    return [warning for warning in result.warnings if "is counted as" not in warning]


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything within a pod."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield (*at, key)
        if isinstance(inner, dict | list):
            yield from _places(inner, (*at, key))


@given(pods(sgx), st.sampled_from([None, True, 7, "x", [], ["x"], {}, {"x": 1}]), st.data())
def test_a_pod_with_anything_at_any_place_gets_an_answer(
    pod: Any, junk: object, data: st.DataObject
) -> None:
    *way, last = data.draw(st.sampled_from(list(_places(pod))))
    inner = pod
    for key in way:
        inner = inner[key]
    inner[last] = junk
    for where in (Where("x"), Where("x", emulated=True)):
        result = mutate(pod, where, Policy())
        if isinstance(result, Refusal):
            assert "\n" not in result.message
