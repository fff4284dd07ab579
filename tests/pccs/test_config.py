# SPDX-License-Identifier: Apache-2.0
"""Settings, presets and the vendor's client configuration."""

import json
from pathlib import Path

import pytest

from ensconce.errors import ConfigError
from ensconce.pccs import PRESETS, Mode, Settings, load_settings, preset, qcnl_config


def test_a_flag_is_above_the_environment_and_that_above_the_file(tmp_path: Path) -> None:
    file = tmp_path / "pccs.toml"
    file.write_text('mode = "offline"\nport = 1\nhost = "::1"\n')
    environment = {"ENSCONCE_PCCS_PORT": "2", "ENSCONCE_PCCS_HOST": "localhost"}
    found = load_settings(file, environment, {"host": "127.0.0.1", "mode": None})
    assert (found.mode, found.port, found.host) == ("offline", 2, "127.0.0.1")


@pytest.mark.parametrize(
    "text", ['colour = "red"', "port = '1'", "port = -1", "read_only = 1", "port ="]
)
def test_a_setting_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pccs.toml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        load_settings(file, {}, {})


def test_plain_http_stays_on_this_machine() -> None:
    assert Settings().check_exposure() is False
    assert Settings(host="0.0.0.0", cert="c", key="k").check_exposure()  # noqa: S104 # with TLS
    for wrong in (Settings(host="0.0.0.0"), Settings(cert="c"), Settings(key="k")):  # noqa: S104
        with pytest.raises(ConfigError):
            wrong.check_exposure()


def test_the_vendors_word_for_request_mode_is_known() -> None:
    assert Settings(mode="REQ").filling is Mode.REQUEST
    with pytest.raises(ConfigError, match="lazy, request"):
        _ = Settings(mode="eager").filling


def test_a_regional_preset_is_filled_in() -> None:
    found = preset("alibaba-vpc", region="cn-hangzhou")
    assert found.url == (
        "https://sgx-dcap-server-vpc.cn-hangzhou.aliyuncs.com/sgx/certification/v4/"
    )
    assert preset("intel").lists_pcks
    assert {"intel", "alibaba", "azure", "pcs", "pccs"} <= set(PRESETS)


@pytest.mark.parametrize(
    ("name", "region", "url"),
    [
        ("nobody", "", ""),
        ("alibaba", "", ""),
        ("alibaba", "evil.example/#", ""),
        ("pccs", "", ""),
        ("pccs", "", "ftp://x/sgx/certification/v4/"),
        ("pccs", "", "https://x/sgx/certification/v3/"),
    ],
)
def test_an_upstream_that_can_not_be_is_an_error(name: str, region: str, url: str) -> None:
    with pytest.raises(ConfigError):
        preset(name, region=region, url=url)


def test_the_vendors_client_is_configured_for_a_pccs() -> None:
    found = json.loads(qcnl_config("https://pccs.example:8081/any/thing", own_certificate=False))
    assert found["pccs_url"] == "https://pccs.example:8081/sgx/certification/v4/"
    assert found["use_secure_cert"] is True
    own = json.loads(qcnl_config("https://localhost:8081", own_certificate=True))
    assert own["use_secure_cert"] is False
    for wrong in ("http://pccs.example:8081", "pccs.example", "ftp://x"):
        with pytest.raises(ConfigError):
            qcnl_config(wrong, own_certificate=False)
