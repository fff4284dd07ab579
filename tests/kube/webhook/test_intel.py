# SPDX-License-Identifier: Apache-2.0
"""What Intel's end-to-end cases (test/e2e/sgxadmissionwebhook) ask of an SGX admission webhook."""

import socket
import ssl
import subprocess
from typing import Any

import pytest
from tests.kube.webhook.pods import epc, pod
from tests.kube.webhook.serving import Running

ENCLAVE, PROVISION, EPC = "sgx.intel.com/enclave", "sgx.intel.com/provision", "sgx.intel.com/epc"


def created(webhook: Running, *names: str, quotes: str) -> dict[str, Any]:
    """Return a pod whose containers have 1Mi each, as it is created in a trusted namespace."""
    return webhook.create(pod(*map(epc, names), quotes=quotes), "trusted")


def devices(made: dict[str, Any]) -> list[list[str]]:
    """Return the devices that each container is limited to one of."""
    every = [each["resources"]["limits"] for each in made["spec"]["containers"]]
    assert all(each["resources"]["requests"] == given for each, given in
               zip(made["spec"]["containers"], every, strict=True))  # fmt: skip
    return [[name for name in (ENCLAVE, PROVISION) if given.get(name) == "1"] for given in every]


def has_aesm(made: dict[str, Any], kind: str) -> None:
    """Check that there is one volume of a kind, and that each container mounts it alone."""
    (volume,) = made["spec"]["volumes"]
    assert (volume["name"], kind in volume) == ("aesmd-socket", True)
    for each in made["spec"]["containers"]:
        (mount,) = each["volumeMounts"]
        assert (mount["name"], mount["mountPath"]) == ("aesmd-socket", "/var/run/aesmd")
        assert each["env"][0] == {"name": "SGX_AESM_ADDR", "value": "1"}


def total(made: dict[str, Any]) -> str:
    """Return the pod's EPC as its annotation says it."""
    said: str = made["metadata"]["annotations"][EPC]
    return said


def test_a_pod_that_quotes_nothing(webhook: Running) -> None:
    made = created(webhook, "test", quotes="")
    assert (devices(made), total(made)) == ([[ENCLAVE]], "1Mi")


def test_a_container_with_the_quoting_libraries_in_it(webhook: Running) -> None:
    made = created(webhook, "test", quotes="test")
    assert (devices(made), total(made)) == ([[ENCLAVE, PROVISION]], "1Mi")


def test_aesmd_beside_in_the_pod(webhook: Running) -> None:
    made = created(webhook, "test", "aesmd", quotes="aesmd")
    assert devices(made) == [[ENCLAVE], [ENCLAVE, PROVISION]]
    has_aesm(made, "emptyDir")
    assert total(made) == "2Mi"


@pytest.mark.parametrize("names", [("test",), ("test1", "test2", "test3")])
def test_aesmd_of_the_node(webhook: Running, names: tuple[str, ...]) -> None:
    made = created(webhook, *names, quotes="aesmd")
    assert devices(made) == [[ENCLAVE]] * len(names)
    has_aesm(made, "hostPath")
    assert total(made) == f"{len(names)}Mi"


def test_volumes_and_mounts_are_made_once(webhook: Running) -> None:
    mounts = [{"name": "aesmd-socket", "mountPath": "/var/run/aesmd"}]
    volumes = [{"name": "aesmd-socket", "emptyDir": {"medium": "Memory"}}]
    before = pod(epc("test", volumeMounts=mounts), volumes=volumes, quotes="aesmd")
    has_aesm(webhook.create(before, "trusted"), "emptyDir")


def test_tls_is_of_version_1_2_at_least_and_its_ciphers_are_strong(webhook: Running) -> None:
    address = webhook.url.removeprefix("https://")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = webhook.tls
        context.minimum_version = context.maximum_version = version
        raw = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
            _, _, bits = connection.cipher() or ("", "", 0)
            assert bits >= 128
    for weak in (["-tls1_1"], ["-tls1_2", "-cipher", "AES128-SHA:AES128-GCM-SHA256:@SECLEVEL=0"]):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", address, *weak], input=b"", capture_output=True
        )
        assert done.returncode != 0, weak
