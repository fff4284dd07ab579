# SPDX-License-Identifier: Apache-2.0
"""One EPC under many names: what is offered, how, and that nothing counts twice."""

from hypothesis import given
from hypothesis import strategies as st

from ensconce.kube.deviceplugin.config import EPC_UNITS, MIB, Config
from ensconce.kube.deviceplugin.discovery import Inventory, Section
from ensconce.kube.deviceplugin.offers import Kind, plan
from ensconce.kube.names import Platform, Resource

ALIBABA, INTEL = Resource.EPC_ALIBABA, Resource.EPC_INTEL


def having(*sizes: int) -> Inventory:
    sections = tuple(Section(size, node) for node, size in enumerate(sizes))
    return Inventory(platform=Platform.SGX, sections=sections)


def shares() -> st.SearchStrategy[dict[str, int]]:
    each = st.integers(1, 100 // len(EPC_UNITS))
    return st.dictionaries(st.sampled_from([str(name) for name in EPC_UNITS]), each, min_size=1)


@given(
    shares(),
    st.lists(st.integers(16 * MIB, 1 << 40), min_size=1, max_size=4),
    st.integers(1, 150_000),
)
def test_no_byte_is_offered_twice_nor_more_than_a_mib_of_a_share_lost(
    epc: dict[str, int], sizes: list[int], most: int
) -> None:
    made = plan(Config(epc=epc, max_devices=most), having(*sizes))
    offered = {offer.resource: offer.devices.count * offer.unit for offer in made.offers}
    offered |= {
        name: count * EPC_UNITS[Resource(name)] for name, count in made.node_capacity.items()
    }
    assert sum(offered.values()) <= sum(sizes)
    for name, share in epc.items():
        assert 0 <= sum(sizes) * share / 100 - offered[name] <= 2 * MIB
    assert all(offer.devices.count <= most for offer in made.offers if offer.unit)


@given(st.lists(st.integers(1, 300 * MIB), min_size=1, max_size=4), st.integers(1, 100))
def test_a_device_lies_on_the_node_where_its_first_byte_does(sizes: list[int], share: int) -> None:
    epc: dict[str, int] = {ALIBABA: 100}
    if share < 100:
        epc = {Resource.EPC_AZURE: 100 - share, ALIBABA: share}
    made = plan(Config(epc=epc), having(*sizes))
    start = 0
    for offer in made.offers:
        if offer.kind is Kind.EPC:
            for index in (0, offer.devices.count // 2, offer.devices.count - 1):
                byte = start + index * MIB
                if 0 <= index < offer.devices.count:
                    node = next(n for n in range(len(sizes)) if byte < sum(sizes[: n + 1]))
                    assert offer.devices.node(index) == node
            start += offer.devices.count * MIB


def test_alibabas_name_is_devices_up_to_the_limit_and_a_figure_beyond() -> None:
    within = plan(Config(), having(64 << 30))
    assert (within.offers[0].resource, within.offers[0].devices.count) == (ALIBABA, 65_536)
    beyond = plan(Config(), having(1 << 40))
    assert beyond.node_capacity == {ALIBABA: 1_048_576}
    assert [offer.kind for offer in beyond.offers] == [Kind.ENCLAVE]
    assert beyond.has_loose_mib


def test_intels_name_is_always_bytes_in_the_nodes_status() -> None:
    made = plan(Config(epc={INTEL: 100}), having(100 * MIB + 4096))
    assert made.node_capacity == {INTEL: 100 * MIB + 4096}
    assert not made.has_loose_mib


def test_the_provisioning_device_is_offered_once_somebody_may_have_it() -> None:
    kinds = [offer.kind for offer in plan(Config(), having(MIB)).offers]
    assert Kind.PROVISION not in kinds
    config = Config(provision_pods=("aesm",), provision_limit=3)
    offer = plan(config, having(MIB)).offers[-1]
    assert (offer.kind, offer.socket) == (Kind.PROVISION, "sgx.intel.com-provision.sock")
    assert [offer.devices.name(n) for n in range(3)] == [f"sgx-provision-{n}" for n in range(3)]


def test_sockets_have_the_vendors_names() -> None:
    made = plan(Config(), having(MIB))
    assert [offer.socket for offer in made.offers] == ["sgx.sock", "sgx.intel.com-enclave.sock"]


def test_nothing_is_offered_where_there_is_nothing() -> None:
    assert not plan(Config(), Inventory(platform=Platform.NONE)).offers
