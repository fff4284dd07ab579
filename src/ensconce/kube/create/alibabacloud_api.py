# SPDX-License-Identifier: Apache-2.0
"""The calls of Alibaba Cloud's API that cluster creation makes, by the official SDK.

Reads are repeated when the cloud throttles or a connection breaks; acts only when it throttles,
for then they were not begun.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from alibabacloud_credentials.client import Client as Credentials
from alibabacloud_credentials.exceptions import CredentialException
from alibabacloud_cs20151215 import models as cs
from alibabacloud_cs20151215.client import Client as AckClient
from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_ecs20140526.client import Client as EcsClient
from alibabacloud_tea_openapi.utils_models import Config
from darabonba.runtime import RuntimeOptions

from ensconce.errors import ConfigError, ServiceError

__all__ = ["Cloud"]

_log = logging.getLogger("ensconce.kube.create")
_Answer = TypeVar("_Answer")

_TRIES = 6
_PAGE = 50
_CONNECT_MS, _READ_MS = 10_000, 30_000
_GONE = ("ErrorClusterNotFound", "ErrorNodePoolNotFound")
_MENDS = {
    "StatusForbidden": "let the RAM user use Container Service (AliyunCSFullAccess)",
    "Forbidden.RAM": "let the RAM user use this action",
    "InvalidAccessKeyId.NotFound": "check the access key",
    "SignatureDoesNotMatch": "check the access key's secret",
}


@dataclass(frozen=True, slots=True)
class Cloud:
    """One region of Alibaba Cloud; `sleep` and `clock` are time's, given for tests."""

    region: str
    ack: AckClient
    ecs: EcsClient
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    patience: float = 45 * 60  # seconds for a control plane or nodes
    interval: float = 10

    @classmethod
    def connect(
        cls,
        region: str,
        *,
        endpoint: str | None = None,
        credentials: Credentials | None = None,
        **options: Any,
    ) -> "Cloud":
        """Return the API, with credentials from the SDK's usual chain unless some are given.

        An endpoint is a URL, for one inside a VPC or a proxy; plain HTTP is for loopback.
        """
        where = _endpoint(endpoint) if endpoint else {}
        # the SDK logs a traceback for each place without credentials; the error says it once
        logging.getLogger("credentials").addHandler(logging.NullHandler())
        credential = credentials or Credentials()
        try:
            credential.get_credential()
        except CredentialException as error:
            raise ConfigError(
                "no credentials of Alibaba Cloud were found; set ALIBABA_CLOUD_ACCESS_KEY_ID and "
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET, or configure a profile of the aliyun command"
            ) from error

        def config() -> Config:
            return Config(
                credential=credential,
                region_id=region,
                connect_timeout=_CONNECT_MS,
                read_timeout=_READ_MS,
                **where,
            )

        return cls(region, AckClient(config()), EcsClient(config()), **options)

    def zones_with(self, instance_type: str) -> list[str]:
        """Return the zones that sell an instance type, pay as you go, now."""
        request = ecs.DescribeAvailableResourceRequest(
            region_id=self.region,
            destination_resource="InstanceType",
            instance_type=instance_type,
            instance_charge_type="PostPaid",
            network_category="vpc",
            io_optimized="optimized",
        )
        body = self._read(
            "DescribeAvailableResource", self.ecs.describe_available_resource_with_options, request
        )
        zones = body.available_zones.available_zone if body.available_zones else []
        return sorted(
            zone.zone_id
            for zone in zones or []
            if zone.status == "Available"
            and zone.status_category in ("WithStock", "ClosedWithStock")
        )

    def find_cluster(self, name: str, tag: str, value: str) -> str | None:
        """Return the id of the cluster with a name and a tag's value."""
        page = 1
        while True:
            request = cs.DescribeClustersV1Request(
                name=name, region_id=self.region, page_number=page, page_size=_PAGE
            )
            body = self._read(
                "DescribeClustersV1", self.ack.describe_clusters_v1with_options, request
            )
            clusters = body.clusters or []
            for each in clusters:
                marks = {one.key: one.value for one in each.tags or []}
                if marks.get(tag) == value and each.state != "deleted":
                    return str(each.cluster_id)
            if len(clusters) < _PAGE:
                return None
            page += 1

    def create_cluster(self, body: Mapping[str, Any]) -> tuple[str, str | None]:
        """Begin a cluster; return its id and the task's."""
        request = _filled(cs.CreateClusterRequest(), body)
        answer = self._act("CreateCluster", self.ack.create_cluster_with_options, request)
        return _named("CreateCluster", answer.cluster_id), answer.task_id

    def cluster_state(self, cluster: str) -> str | None:
        """Return a cluster's state; None if there is none."""
        detail = self._detail(cluster)
        return None if detail is None or detail.state == "deleted" else str(detail.state)

    def wait_for_cluster(self, cluster: str, task: str | None) -> str:
        """Wait until a cluster runs; return its Kubernetes version."""

        def running() -> str | None:
            detail = self._detail(cluster)
            if detail is None:
                raise ServiceError(f"cluster {cluster} is gone; delete its record and begin anew")
            if detail.state == "running":
                return str(detail.current_version)
            self._task(task)
            if detail.state in ("failed", "deleted", "delete_failed", "unavailable"):
                raise ServiceError(
                    f"cluster {cluster} is {detail.state}; its events in the console say why; "
                    "delete it and create it again"
                )
            return None

        return self._wait(f"cluster {cluster}", running)

    def find_node_pool(self, cluster: str, name: str) -> str | None:
        """Return the id of a cluster's node pool."""
        request = cs.DescribeClusterNodePoolsRequest(nodepool_name=name)
        body = self._read(
            "DescribeClusterNodePools",
            self.ack.describe_cluster_node_pools_with_options,
            cluster,
            request,
        )
        for each in body.nodepools or []:
            if each.nodepool_info.name == name:
                return str(each.nodepool_info.nodepool_id)
        return None

    def create_node_pool(self, cluster: str, body: Mapping[str, Any]) -> tuple[str, str | None]:
        """Begin a node pool; return its id and the task's."""
        request = _filled(cs.CreateClusterNodePoolRequest(), body)
        answer = self._act(
            "CreateClusterNodePool",
            self.ack.create_cluster_node_pool_with_options,
            cluster,
            request,
        )
        return _named("CreateClusterNodePool", answer.nodepool_id), answer.task_id

    def wait_for_nodes(self, cluster: str, pool: str, count: int, task: str | None) -> bool:
        """Wait until a node pool has its nodes; return whether it is confidential."""

        def ready() -> Any:
            detail = self._pool(cluster, pool)
            if detail is None:
                raise ServiceError(f"node pool {pool} is gone; delete the cluster and begin anew")
            status = detail.status
            if status.state == "active" and (status.healthy_nodes or 0) >= count:
                return detail
            self._task(task)
            if status.failed_nodes:
                reasons = "; ".join(
                    each.message for each in status.conditions or [] if each.message
                )
                raise ServiceError(
                    f"{status.failed_nodes} nodes of {pool} failed "
                    f"({reasons or 'no reason given'}); mend that in the console and run this again"
                )
            _log.info("      %s of %s nodes are healthy", status.healthy_nodes or 0, count)
            return None

        detail = self._wait(f"node pool {pool}", ready)
        return bool(detail.tee_config and detail.tee_config.tee_enable)

    def kubeconfig(self, cluster: str, *, public: bool) -> str:
        """Return a kubeconfig, by the public address or the VPC's."""
        request = cs.DescribeClusterUserKubeconfigRequest(private_ip_address=not public)
        body = self._read(
            "DescribeClusterUserKubeconfig",
            self.ack.describe_cluster_user_kubeconfig_with_options,
            cluster,
            request,
        )
        return _named("DescribeClusterUserKubeconfig", body.config)

    def delete_node_pool(self, cluster: str, pool: str) -> None:
        """Delete a node pool with its instances, and wait until it is gone."""
        detail = self._pool(cluster, pool)
        if detail is not None and detail.status.state != "deleting":
            request = cs.DeleteClusterNodepoolRequest(force=True)
            self._act(
                "DeleteClusterNodepool",
                self.ack.delete_cluster_nodepool_with_options,
                cluster,
                pool,
                request,
                absent=True,
            )
        self._wait(f"node pool {pool}", lambda: self._pool(cluster, pool) is None or None)

    def delete_cluster(self, cluster: str) -> None:
        """Delete a cluster with what ACK made for it, and wait until it is gone."""
        if self.cluster_state(cluster) not in (None, "deleting"):
            request = cs.DeleteClusterRequest(retain_all_resources=False)
            self._act(
                "DeleteCluster",
                self.ack.delete_cluster_with_options,
                cluster,
                request,
                absent=True,
            )

        def gone() -> bool | None:
            state = self.cluster_state(cluster)
            if state == "delete_failed":
                raise ServiceError(
                    f"cluster {cluster} could not be deleted; its events in the console say why; "
                    "mend that and run this again"
                )
            return state is None or None

        self._wait(f"cluster {cluster}", gone)

    def _detail(self, cluster: str) -> Any:
        """Return a cluster's detail; None if there is none."""
        return self._read(
            "DescribeClusterDetail",
            self.ack.describe_cluster_detail_with_options,
            cluster,
            absent=True,
        )

    def _pool(self, cluster: str, pool: str) -> Any:
        """Return a node pool's detail; None if there is none."""
        return self._read(
            "DescribeClusterNodePoolDetail",
            self.ack.describe_cluster_node_pool_detail_with_options,
            cluster,
            pool,
            absent=True,
        )

    def _task(self, task: str | None) -> None:
        """Say how far a task is; ServiceError if it failed."""
        if task is None:
            return
        body = self._read("DescribeTaskInfo", self.ack.describe_task_info_with_options, task)
        if body.state == "fail":
            reason = f"{body.error.code}: {body.error.message}" if body.error else "no reason given"
            raise ServiceError(
                f"task {task} failed at {body.current_stage or 'its start'} ({reason}); delete the "
                "cluster, mend that, and create it again"
            )
        _log.info("      %s: %s", body.task_type or task, body.current_stage or body.state)

    def _wait(self, what: str, look: Callable[[], _Answer | None]) -> _Answer:
        """Look until there is something to see."""
        end = self.clock() + self.patience
        while (seen := look()) is None:
            if self.clock() >= end:
                raise ServiceError(
                    f"{what} is not there after {self.patience / 60:.0f} minutes; look at it in "
                    "the console, and run this again to go on waiting"
                )
            self.sleep(self.interval)
        return seen

    def _read(
        self, action: str, call: Callable[..., Any], *arguments: Any, absent: bool = False
    ) -> Any:
        """Call what changes nothing; None for a thing that is not there, where that may be."""
        return self._call(action, call, arguments, absent=absent, again=True)

    def _act(
        self, action: str, call: Callable[..., Any], *arguments: Any, absent: bool = False
    ) -> Any:
        """Call what changes something."""
        return self._call(action, call, arguments, absent=absent, again=False)

    def _call(
        self,
        action: str,
        call: Callable[..., Any],
        arguments: tuple[Any, ...],
        *,
        absent: bool,
        again: bool,
    ) -> Any:
        """Call, and repeat what may be repeated."""
        headers: tuple[Any, ...] = () if getattr(call, "__self__", None) is self.ecs else ({},)
        for attempt in range(1, _TRIES + 1):
            try:
                return call(*arguments, *headers, RuntimeOptions()).body
            except Exception as error:  # the SDK has no root of its errors
                if absent and _code(error) in _GONE:
                    return None
                if attempt == _TRIES or not (_throttled(error) or (again and _broken(error))):
                    raise _service_error(action, error) from error
                wait = getattr(error, "retry_after", None)
                self.sleep(min(wait / 1000 if wait else 2.0**attempt, 60))
        raise AssertionError  # the last attempt returned or raised


def _filled(model: Any, values: Mapping[str, Any]) -> Any:
    """Return a request with these values alone; `from_map` adds empty lists of others."""
    model.from_map(dict(values))
    for name, value in list(vars(model).items()):
        if value == []:
            setattr(model, name, None)
    return model


def _endpoint(url: str) -> dict[str, str]:
    """Return an endpoint as the SDK takes it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ConfigError(f"endpoint {url!r} is no URL of a host; write https://HOST")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError(f"endpoint {url} would go unencrypted; write https://")
    return {"endpoint": parts.netloc, "protocol": parts.scheme.upper()}


def _code(error: Exception) -> str:
    """Return the cloud's error code; empty for an error that is not the cloud's."""
    return str(getattr(error, "code", None) or "")


def _throttled(error: Exception) -> bool:
    """Return whether the cloud turned a call away for their number."""
    status = getattr(error, "status_code", None)
    return status == 429 or _code(error).startswith("Throttling")


def _broken(error: Exception) -> bool:
    """Return whether no answer came, or one of a server in trouble."""
    status = getattr(error, "status_code", None)
    return (status is None and not _code(error)) or (isinstance(status, int) and status >= 500)


def _service_error(action: str, error: Exception) -> ServiceError:
    """Return an error of the SDK as one sentence."""
    code = _code(error)
    status = getattr(error, "status_code", None)
    data = getattr(error, "data", None) or {}
    if status is None:
        text = " ".join(str(getattr(error, "message", None) or error).split())[:300]
        return ServiceError(f"{action} got no answer from Alibaba Cloud ({text}); run this again")
    said = data.get("Message") or data.get("message") or getattr(error, "message", "") or code
    request = getattr(error, "request_id", None) or data.get("RequestId") or "unknown"
    mend = _MENDS.get(code, "correct that and run this again")
    return ServiceError(
        f"Alibaba Cloud refused {action}: {' '.join(str(said).split())[:500].rstrip('.')} "
        f"({code}, request {request}); {mend}",
        status=int(status),
    )


def _named(action: str, value: Any) -> str:
    """Return what an answer must have."""
    if not isinstance(value, str) or not value:
        raise ServiceError(f"{action}'s answer lacks what it is asked for; run this again")
    return value
