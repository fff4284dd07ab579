# SPDX-License-Identifier: Apache-2.0
"""Settings from a file, the environment and flags."""

from pathlib import Path
from typing import Any

import pytest

from ensconce.errors import ConfigError
from ensconce.kube.deviceplugin.config import Config, load_config

ALIBABA, INTEL = "alibabacloud.com/sgx_epc_MiB", "sgx.intel.com/epc"


def test_a_flag_goes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    (path := tmp_path / "plugin.toml").write_text(
        'enclave_limit = 1\nemulated_mib = 1\nmax_devices = 1\n\n[epc]\n"sgx.intel.com/epc" = 40\n'
    )
    environment = {
        "ENSCONCE_DEVICE_PLUGIN_EMULATED_MIB": "2",
        "ENSCONCE_DEVICE_PLUGIN_MAX_DEVICES": "2",
    }
    config = load_config(path, environment, {"max_devices": 3, "enclave_limit": None})
    assert (config.enclave_limit, config.emulated_mib, config.max_devices) == (1, 2, 3)
    assert config.epc == {INTEL: 40}


def test_every_kind_of_setting_can_stand_in_the_environment() -> None:
    prefix = "ENSCONCE_DEVICE_PLUGIN_"
    config = load_config(
        None,
        {
            f"{prefix}EPC": f"{ALIBABA}=60, {INTEL}=40",
            f"{prefix}PROVISION_PODS": "kube-system/aesm,other",
            f"{prefix}AESM_SOCKET": "true",
            f"{prefix}ROOT": "/host",
        },
        {},
    )
    assert config.epc == {ALIBABA: 60, INTEL: 40}
    assert config.provision_pods == ("kube-system/aesm", "other")
    assert (config.aesm_socket, config.root) == (True, Path("/host"))


def test_one_name_alone_offers_everything() -> None:
    assert load_config(None, {}, {"epc": INTEL}).epc == {INTEL: 100}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"colour": "red"}, "'colour' is no setting"),
        ({"epc": {ALIBABA: 60, INTEL: 60}}, "120 % together, so EPC would be counted twice"),
        ({"epc": {"example.com/epc": 100}}, "'example.com/epc', which is no resource for EPC"),
        ({"epc": {ALIBABA: 0}}, "has to be from 1 to 100"),
        ({"epc": f"{ALIBABA}=all"}, "has to be resource names with their percentages"),
        ({"platform": "tdx"}, "platform is 'tdx' and has to be one of auto, sgx"),
        ({"platform": "emulated"}, "emulated_mib is not set"),
        ({"max_devices": 300_000}, "has to be from 1 to 150000"),
        ({"enclave_limit": -1}, "has to be from 0 to"),
        ({"enclave_limit": True}, "has to be a whole number"),
        ({"aesm_socket": "perhaps"}, "has to be true or false"),
        ({"provision_pods": ["a/b/c"]}, "neither a namespace nor"),
        ({"provision_pods": ["a/"]}, "neither a namespace nor"),
        ({"listen": 80}, "listen is 80 and has to be a text"),
    ],
)
def test_a_wrong_setting_is_named_with_its_mend(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        load_config(None, {}, settings)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (path := tmp_path / "plugin.toml").write_text("epc =")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(path, {}, {})


def test_nobody_may_provision_unless_named() -> None:
    assert not Config().may_provision("default", "default")
    config = Config(provision_pods=("aesm", "apps/quoter"))
    assert config.may_provision("aesm", "whoever")
    assert config.may_provision("apps", "quoter")
    assert config.may_provision("apps", None)
    assert not config.may_provision("apps", "default")
    assert Config(provision_pods=("*",)).may_provision("default", "default")
