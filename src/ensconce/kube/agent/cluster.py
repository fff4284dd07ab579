# SPDX-License-Identifier: Apache-2.0
"""The agent's connection to the API server, made when it is needed and again when it is refused."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus

import httpx2
from lightkube import ApiError, AsyncClient
from lightkube.core.exceptions import ConfigError as NoConfigurationError
from lightkube.resources.core_v1 import Pod
from lightkube.utils.quantity import parse_quantity

from ensconce.errors import ConfigError, ServiceError
from ensconce.kube.agent.desired import Desired
from ensconce.kube.agent.node import MANAGER, Reconciler
from ensconce.kube.deviceplugin.config import EPC_UNITS

__all__ = ["Cluster"]

_TIMEOUT = httpx2.Timeout(10.0)


class Cluster:
    """What one node's agent reads and writes in its cluster, as ServiceError where it can't be."""

    def __init__(self, node: str, client: AsyncClient | None = None) -> None:
        self.node = node
        self._client = client
        self._reconciler: Reconciler | None = None

    async def reconcile(self, wanted: Desired) -> bool:
        """Bring the node's object to what it should be; return whether anything was written."""
        async with self._translated():
            return await self._own().reconcile(wanted)

    async def clean(self) -> None:
        """Remove what agents wrote from the node's object."""
        async with self._translated():
            await self._own().clean()

    async def asked(self, pod_uid: str, container: str) -> int:
        """Return the bytes of EPC in a container's limits, 0 where it has none."""
        async with self._translated():
            pods = self._connect().list(Pod, namespace="*", fields={"spec.nodeName": self.node})
            async for pod in pods:
                if pod.metadata is None or pod.metadata.uid != pod_uid or pod.spec is None:
                    continue
                for each in [*pod.spec.containers, *(pod.spec.initContainers or ())]:
                    if each.name == container and each.resources is not None:
                        return _epc(each.resources.limits or {})
        return 0

    async def account(self, namespace: str, pod: str) -> str | None:
        """Return a pod's service account, None where there is no such pod."""
        try:
            async with self._translated():
                found = await self._connect().get(Pod, pod, namespace=namespace)
        except ServiceError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return found.spec.serviceAccountName if found.spec else None

    async def close(self) -> None:
        """Close the connection; what is asked next makes a new one."""
        client, self._client, self._reconciler = self._client, None, None
        if client is not None:
            await client.close()

    def _own(self) -> Reconciler:
        """Return what keeps this node's object."""
        if self._reconciler is None:
            self._reconciler = Reconciler(self._connect(), self.node)
        return self._reconciler

    def _connect(self) -> AsyncClient:
        """Return the client."""
        if self._client is None:
            self._client = AsyncClient(timeout=_TIMEOUT, field_manager=MANAGER)
        return self._client

    @contextlib.asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Turn what the client raises into errors with a mend."""
        try:
            yield
        except ApiError as error:
            code = error.status.code or 0
            if code == HTTPStatus.UNAUTHORIZED:  # the token is an old one
                await self.close()
            raise ServiceError(f"the API server refuses: {error}", status=code) from error
        except httpx2.HTTPError as error:
            raise ServiceError(f"the API server can't be reached: {error!r}") from error
        except NoConfigurationError as error:
            raise ConfigError(
                f"no cluster is configured here ({error}); run in a pod, or set KUBECONFIG"
            ) from error


def _epc(limits: Mapping[str, str]) -> int:
    """Return the EPC in limits; several names mean the same memory."""
    sizes = [0]
    for name, unit in EPC_UNITS.items():
        if name in limits:
            sizes.append(int(parse_quantity(str(limits[name])) or 0) * unit)
    return max(sizes)
