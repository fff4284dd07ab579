# SPDX-License-Identifier: Apache-2.0
"""Devices' IDs and places, and which of them are taken together."""

from hypothesis import given
from hypothesis import strategies as st

from ensconce.kube.deviceplugin import v1beta1_pb2 as api
from ensconce.kube.deviceplugin.devices import DeviceList, Extent, prefer
from ensconce.kube.deviceplugin.visible import MOST_DEVICES, runs

TWO_NODES = DeviceList(100, "", (Extent(60, 0), Extent(100, 1)))
_LARGEST = 4 << 20


@given(st.text() | st.integers(-5, 200).map(str))
def test_only_an_id_that_was_offered_is_known(name: str) -> None:
    index = TWO_NODES.index(name)
    assert (index is not None) == (name in {str(n) for n in range(100)})


def test_an_id_has_its_prefix_and_no_leading_zero() -> None:
    devices = DeviceList(20, "sgx-enclave-")
    assert devices.index("sgx-enclave-19") == 19
    assert [devices.index(name) for name in ("19", "sgx-enclave-019", "sgx-enclave-20")] == [
        None
    ] * 3


def test_a_message_has_every_device_with_its_health_and_place() -> None:
    message = TWO_NODES.message(healthy=True, ill={7})
    found = api.ListAndWatchResponse.FromString(message).devices
    assert [each.ID for each in found] == [str(n) for n in range(100)]
    assert [each.ID for each in found if each.health == "Unhealthy"] == ["7"]
    assert [each.topology.nodes[0].ID for each in found] == [0] * 60 + [1] * 40


def test_one_section_has_no_topology_as_with_the_vendors_plugin() -> None:
    message = DeviceList(3, "", (Extent(3, 0),)).message(healthy=True)
    devices = api.ListAndWatchResponse.FromString(message).devices
    assert not any(each.HasField("topology") for each in devices)


def test_the_most_devices_there_may_be_fit_the_kubelets_limit() -> None:
    most = DeviceList(MOST_DEVICES, "", (Extent(1, 0), Extent(MOST_DEVICES, 1023)))
    assert len(most.message(healthy=False)) < _LARGEST


@st.composite
def requests(draw: st.DrawFn) -> tuple[set[int], list[int], int]:
    free = draw(st.sets(st.integers(0, 99), min_size=1))
    needed = draw(st.lists(st.sampled_from(sorted(free)), unique=True, max_size=5))
    return free, needed, draw(st.integers(max(1, len(needed)), len(free)))


@given(requests())
def test_a_preference_is_what_was_asked_for(request: tuple[set[int], list[int], int]) -> None:
    free, needed, size = request
    chosen = prefer(TWO_NODES, free, needed, size)
    assert len(chosen) == len(set(chosen)) == size
    assert set(needed) <= set(chosen) <= free


@given(requests())
def test_one_numa_node_is_preferred_where_one_has_enough(
    request: tuple[set[int], list[int], int],
) -> None:
    free, _, size = request
    chosen = prefer(TWO_NODES, free, [], size)
    enough = [sum(TWO_NODES.node(n) == node for n in free) >= size for node in (0, 1)]
    assert len({TWO_NODES.node(n) for n in chosen}) == (1 if any(enough) else 2)


@given(st.sets(st.integers(0, 99), min_size=1), st.data())
def test_devices_side_by_side_are_preferred(free: set[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(free)))
    chosen = prefer(DeviceList(100), free, [], size)
    longest = sorted((last - first + 1 for first, last in runs(free)), reverse=True)
    fewest = next(n for n in range(1, len(longest) + 1) if sum(longest[:n]) >= size)
    assert len(list(runs(chosen))) == fewest


def test_the_node_with_the_least_left_is_filled_first() -> None:
    free = [*range(50), *range(60, 75)]
    assert prefer(TWO_NODES, free, [], 10) == list(range(60, 70))
    assert prefer(TWO_NODES, free, [3], 4)[0] == 3
    assert {TWO_NODES.node(n) for n in prefer(TWO_NODES, free, [3], 10)} == {0}


def test_a_request_for_more_than_there_is_gets_what_there_is() -> None:
    assert sorted(prefer(TWO_NODES, [1, 2, 99], [], 10)) == [1, 2, 99]
