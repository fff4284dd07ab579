# SPDX-License-Identifier: Apache-2.0
"""A managed cluster of Alibaba Cloud (ACK) with confidential computing.

Parameters are those of ACK's API 2015-12-15: CreateCluster without nodes, then one
CreateClusterNodePool with `tee_config`. The cluster carries a tag with the record's identity, by
which a run finds what an earlier one made even if it ended before the answer came.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ensconce.errors import ConfigError, PolicyError
from ensconce.kube.create.plan import Step
from ensconce.kube.create.record import Record, remove_kubeconfig, write_kubeconfig
from ensconce.kube.create.settings import check_networks, make_settings
from ensconce.kube.names import DOMAIN

if TYPE_CHECKING:
    from ensconce.kube.create.alibabacloud_api import Cloud

__all__ = ["CREATION_TAG", "FAMILIES", "IMAGES", "REGIONS", "AckSettings", "AlibabaCloud"]


CREATION_TAG = f"{DOMAIN}/creation"
NODE_POOL = "confidential"

# SGX2 with EPC in virtual machines: general purpose, compute, memory
FAMILIES = ("ecs.c7t", "ecs.g7t", "ecs.r7t")

# where ACK's remote attestation has a PCCS, sgx-dcap-server.<region>.aliyuncs.com
REGIONS = (
    "ap-southeast-1",
    "ap-southeast-5",
    "cn-beijing",
    "cn-chengdu",
    "cn-guangzhou",
    "cn-hangzhou",
    "cn-heyuan",
    "cn-hongkong",
    "cn-qingdao",
    "cn-shanghai",
    "cn-shenzhen",
    "cn-wulanchabu",
    "cn-zhangjiakou",
)

# SGX instances boot by UEFI only; these are ACK's image types that do
IMAGES = ("AliyunLinux3Security", "AliyunLinuxSecurity")

_STEPS = (
    Step(
        "stock",
        "check that the region sells the instance types",
        "a node pool that can't get its instances waits until it fails",
        changes=False,
    ),
    Step(
        "cluster",
        "create the managed cluster, without nodes",
        "Flannel and containerd are the only network and runtime with confidential computing",
    ),
    Step(
        "control-plane",
        "wait until the control plane runs",
        "a node pool is refused before",
        changes=False,
    ),
    Step(
        "node-pool",
        "create the node pool with confidential computing",
        "tee_config has ACK prepare nodes for SGX: driver, AESM, UEFI image",
    ),
    Step(
        "nodes",
        "wait until the nodes are healthy",
        "the cluster is of use once they are",
        changes=False,
    ),
    Step("kubeconfig", "write the kubeconfig", "kubectl and `ensconce cluster install` need it"),
)
_REMOVALS = (
    Step("kubeconfig", "remove the kubeconfig", "its credentials end with the cluster"),
    Step("node-pool", "delete the node pool and its instances", "instances cost until released"),
    Step("cluster", "delete the cluster", "with the load balancers that ACK made for it"),
)


@dataclass(frozen=True, slots=True)
class AckSettings:
    """What a user decides; VPC, vSwitches and key pair are there already and stay untouched."""

    region: str
    vpc: str
    vswitches: tuple[str, ...]
    key_pair: str
    instance_types: tuple[str, ...] = ("ecs.g7t.xlarge",)
    nodes: int = 2
    image_type: str = IMAGES[0]
    cluster_spec: str = "ack.pro.small"
    kubernetes_version: str | None = None
    pod_network: str = "172.20.0.0/16"
    service_network: str = "172.21.0.0/20"
    system_disk_gib: int = 120
    public_endpoint: bool = False
    snat: bool = False
    endpoint: str | None = None
    kubeconfig: str | None = None

    def check(self) -> None:
        """Refuse what can't become a confidential cluster; ConfigError or PolicyError says why."""
        if self.region not in REGIONS:
            raise PolicyError(
                f"region {self.region} has no SGX attestation service of Alibaba Cloud; take one "
                f"of {', '.join(REGIONS)}"
            )
        if not self.vswitches or not self.instance_types:
            raise ConfigError("alibabacloud needs at least one of vswitches and instance_types")
        for each in self.instance_types:
            _check_instance_type(each)
        if self.image_type not in IMAGES:
            raise PolicyError(
                f"image type {self.image_type} does not boot by UEFI, which SGX instances need; "
                f"take one of {', '.join(IMAGES)}"
            )
        if not 1 <= self.nodes <= 1000:
            raise ConfigError(f"nodes is {self.nodes}; a node pool takes 1 to 1000")
        if not 40 <= self.system_disk_gib <= 2048:
            raise ConfigError(f"system_disk_gib is {self.system_disk_gib}; take 40 to 2048")
        check_networks(pod_network=self.pod_network, service_network=self.service_network)


def _check_instance_type(name: str) -> None:
    """Refuse an instance type without SGX."""
    family = ".".join(name.split(".")[:2])
    if family not in FAMILIES or name.count(".") != 2:
        raise PolicyError(
            f"instance type {name} has no SGX enclave memory; take one of "
            f"{', '.join(f'{each}.*' for each in FAMILIES)}"
        )


class AlibabaCloud:
    """The provider; see the module."""

    kind = "alibabacloud"

    def __init__(
        self, name: str, choice: AckSettings, cloud: "Callable[[AckSettings], Cloud] | None" = None
    ) -> None:
        choice.check()
        self.name = name
        self.choice = choice
        self._connect = cloud or _connect
        self._cloud: Cloud | None = None

    @classmethod
    def of(cls, name: str, values: Mapping[str, Any]) -> "AlibabaCloud":
        """Return the provider for plain settings."""
        return cls(name, make_settings(AckSettings, values, "alibabacloud"))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings as the record keeps them."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self.choice).items()
            if value is not None
        }

    @property
    def cloud(self) -> "Cloud":
        """The API, connected to when first needed."""
        if self._cloud is None:
            self._cloud = self._connect(self.choice)
        return self._cloud

    def steps(self) -> tuple[Step, ...]:
        """Return the six steps."""
        return _STEPS

    def notes(self) -> tuple[str, ...]:
        """Return what an owner of the account should know."""
        choice = self.choice
        notes = [
            f"{choice.nodes} pay-as-you-go instances ({', '.join(choice.instance_types)}) and the "
            f"cluster ({choice.cluster_spec}) cost money until they are deleted",
            "Alibaba Cloud lets accounts on a list use confidential node pools; ask by a ticket",
            "enclave memory does not move with an instance: data sealed on a host is lost with it",
        ]
        if choice.nodes < 2:
            notes.append("with one node the cluster's own components have no second place to run")
        if choice.public_endpoint:
            notes.append("the API server will be reachable from the internet")
        return tuple(notes)

    def apply(self, step: str, record: Record) -> str:
        """Do one step; ServiceError carries Alibaba Cloud's reason and request id."""
        act: Callable[[Record], str] = {
            "stock": self._stock,
            "cluster": self._cluster,
            "control-plane": self._control_plane,
            "node-pool": self._node_pool,
            "nodes": self._nodes,
            "kubeconfig": self._kubeconfig,
        }[step]
        return act(record)

    def _stock(self, _record: Record) -> str:
        """Check stock, which differs by zone."""
        zones = {each: self.cloud.zones_with(each) for each in self.choice.instance_types}
        if not any(zones.values()):
            raise PolicyError(
                f"no zone of {self.choice.region} has {' or '.join(zones)} in stock; choose "
                "another instance type or region"
            )
        return "; ".join(f"{each}: {', '.join(zones[each]) or 'nowhere'}" for each in zones)

    def _cluster(self, record: Record) -> str:
        """Create the cluster, or find that an earlier run did."""
        found = self.cloud.find_cluster(self.name, CREATION_TAG, record.identity)
        if found is not None:
            record.note(cluster_id=found)
            return f"{found} was created before"
        cluster, task = self.cloud.create_cluster(self.cluster_request(record.identity))
        record.note(cluster_id=cluster, cluster_task=task)
        return f"{cluster} is being created"

    def _control_plane(self, record: Record) -> str:
        """Wait for the cluster."""
        cluster = record.facts["cluster_id"]
        version = self.cloud.wait_for_cluster(cluster, record.facts.get("cluster_task"))
        record.note(cluster_task=None)
        return f"{cluster} runs Kubernetes {version}"

    def _node_pool(self, record: Record) -> str:
        """Create the node pool, or find that an earlier run did."""
        cluster = record.facts["cluster_id"]
        found = self.cloud.find_node_pool(cluster, NODE_POOL)
        if found is not None:
            record.note(node_pool_id=found)
            return f"{found} was created before"
        pool, task = self.cloud.create_node_pool(cluster, self.node_pool_request(record.identity))
        record.note(node_pool_id=pool, node_pool_task=task)
        return f"{pool} is being created"

    def _nodes(self, record: Record) -> str:
        """Wait for the nodes, and see that they got what was asked for."""
        cluster, pool = record.facts["cluster_id"], record.facts["node_pool_id"]
        task = record.facts.get("node_pool_task")
        confidential = self.cloud.wait_for_nodes(cluster, pool, self.choice.nodes, task)
        if not confidential:
            raise PolicyError(
                f"node pool {pool} came up without confidential computing; ask Alibaba Cloud to "
                f"put the account on its list, then run `ensconce cluster delete {self.name}` and "
                "create it again"
            )
        record.note(node_pool_task=None)
        return f"{self.choice.nodes} nodes are healthy"

    def _kubeconfig(self, record: Record) -> str:
        """Write the kubeconfig."""
        cluster, public = record.facts["cluster_id"], self.choice.public_endpoint
        path = write_kubeconfig(
            record, self.choice.kubeconfig, lambda: self.cloud.kubeconfig(cluster, public=public)
        )
        return f"{path}; next: KUBECONFIG={path} ensconce cluster install"

    def removals(self, record: Record) -> tuple[Step, ...]:
        """Return what the record, or the mark on what it began, says was made."""
        begun = {"stock", *record.done}
        later = [step.name for step in _STEPS if step.name not in begun][:1]
        begun.update(later)  # it may have been begun
        return tuple(step for step in _REMOVALS if step.name in begun)

    def remove(self, step: str, record: Record) -> str:
        """Take one step back; what bears no mark of ours is left alone."""
        act: Callable[[Record], str] = {
            "kubeconfig": remove_kubeconfig,
            "node-pool": self._remove_node_pool,
            "cluster": self._remove_cluster,
        }[step]
        return act(record)

    def _remove_node_pool(self, record: Record) -> str:
        """Delete the node pool and wait until it is gone."""
        cluster = self._own_cluster(record)
        pool = cluster and self.cloud.find_node_pool(cluster, NODE_POOL)
        if not cluster or not pool:
            return "there is none"
        self.cloud.delete_node_pool(cluster, pool)
        return f"{pool} is gone"

    def _remove_cluster(self, record: Record) -> str:
        """Delete the cluster and wait until it is gone."""
        cluster = self._own_cluster(record)
        if not cluster:
            return "there is none"
        self.cloud.delete_cluster(cluster)
        return f"{cluster} is gone"

    def _own_cluster(self, record: Record) -> str | None:
        """Return the cluster that bears our mark; refuse one that the record names and does not."""
        found = self.cloud.find_cluster(self.name, CREATION_TAG, record.identity)
        named: str | None = record.facts.get("cluster_id")
        if found is None and named is not None and self.cloud.cluster_state(named) is not None:
            raise PolicyError(
                f"cluster {named} lost its tag {CREATION_TAG}={record.identity}; put it back, or "
                "delete the cluster in the console"
            )
        return found

    def cluster_request(self, identity: str) -> dict[str, Any]:
        """Return CreateCluster's body."""
        choice = self.choice
        request = {
            "name": self.name,
            "region_id": choice.region,
            "cluster_type": "ManagedKubernetes",
            "profile": "Default",
            "cluster_spec": choice.cluster_spec,
            "kubernetes_version": choice.kubernetes_version,
            "vpcid": choice.vpc,
            "vswitch_ids": list(choice.vswitches),
            "addons": [{"name": "flannel"}],
            "container_cidr": choice.pod_network,
            "service_cidr": choice.service_network,
            "snat_entry": choice.snat,
            "endpoint_public_access": choice.public_endpoint,
            "client_token": identity,
            "tags": [{"key": CREATION_TAG, "value": identity}],
        }
        return {key: value for key, value in request.items() if value is not None}

    def node_pool_request(self, identity: str) -> dict[str, Any]:
        """Return CreateClusterNodePool's body."""
        choice = self.choice
        return {
            "nodepool_info": {"name": NODE_POOL},
            "tee_config": {"tee_enable": True},
            "kubernetes_config": {"runtime": "containerd"},
            "scaling_group": {
                "instance_types": list(choice.instance_types),
                "image_type": choice.image_type,
                "vswitch_ids": list(choice.vswitches),
                "desired_size": choice.nodes,
                "instance_charge_type": "PostPaid",
                "key_pair": choice.key_pair,
                "system_disk_category": "cloud_essd",
                "system_disk_size": choice.system_disk_gib,
                "tags": [{"key": CREATION_TAG, "value": identity}],
            },
        }


def _connect(choice: AckSettings) -> "Cloud":
    """Connect by the SDK and its chain of credentials."""
    try:
        from ensconce.kube.create.alibabacloud_api import Cloud
    except ImportError as error:
        raise ConfigError(
            f"the provider alibabacloud needs Alibaba Cloud's SDK ({error}); "
            "pip install 'ensconce[alibabacloud]'"
        ) from error
    return Cloud.connect(choice.region, endpoint=choice.endpoint)
