# SPDX-License-Identifier: Apache-2.0
"""Metrics and health over HTTP."""

import asyncio
import json
import urllib.error
import urllib.request

import pytest
from tests.kube.deviceplugin.node import Node

from ensconce.errors import ConfigError
from ensconce.kube.deviceplugin import DevicePlugins, discover
from ensconce.kube.deviceplugin.web import serve_http


def plugins(node: Node) -> DevicePlugins:
    config = node.config()
    return DevicePlugins(config, lambda: discover(config, None))


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_node_without_sgx_is_healthy_and_says_why_it_is_not_ready(bare: Node) -> None:
    status, body = get(serve_http("127.0.0.1:0", plugins(bare)), "/healthz")
    assert (status, json.loads(body)["reason"]) == (200, "NoSgx")


def test_metrics_and_nothing_else_are_there(node: Node) -> None:
    async def scenario() -> None:
        async with node.running() as running:
            port = serve_http("127.0.0.1:0", running)
            _, text = await asyncio.to_thread(get, port, "/metrics")
            assert 'ensconce_device_plugin_healthy{platform="sgx"} 1.0' in text
            assert (await asyncio.to_thread(get, port, "/etc/passwd"))[0] == 404

    asyncio.run(scenario())


@pytest.mark.parametrize("address", ["9465", "127.0.0.1:", "127.0.0.1:70000", "192.0.2.1:80"])
def test_an_address_that_can_not_be_listened_at_is_named(bare: Node, address: str) -> None:
    with pytest.raises(ConfigError, match=address):
        serve_http(address, plugins(bare))
