# SPDX-License-Identifier: Apache-2.0
import base64
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.kube.install.helm import helm_template

import ensconce
from ensconce.errors import ConfigError
from ensconce.kube.install.chart import Chart, chart, chart_path, load_values, merged
from ensconce.kube.names import NAMESPACE, NODE_NAMESPACE
from ensconce.kube.webhook import Authority, configurations

MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "emulated": {"emulated": {"enabled": True, "epcMiB": 1 << 20}},
    "one emulated platform": {"emulated": {"enabled": True, "identitySecret": "platform"}},
    "node initialization": {"nodeInit": {"enabled": True}},
    "its dry run": {"nodeInit": {"enabled": True, "dryRun": True}},
    "sandbox": {"sandbox": {"enabled": True, "nodeSelector": {"kvm": "yes"}}},
    "no services": {"pccs": {"enabled": False, "url": "https://pccs.example/"}},
    "no AESM": {"aesm": {"enabled": False}, "webhook": {"enabled": False}},
    "image": {
        "image": {"repository": "registry.example:5000/a/b", "tag": "1.2"},
        "imagePullSecrets": ["first", "second"],
    },
    "digest": {"image": {"digest": "sha256:" + "0a" * 32, "pullPolicy": "Always"}},
    "a large PCCS": {
        "pccs": {
            "replicas": 3,
            "databaseSecret": "db",
            "tlsSecret": "tls",
            "tokensSecret": "tokens",
            "apiKeySecret": "key",
            "upstream": "alibaba",
            "region": "cn-hangzhou",
            "url": "https://up.example/",
        }
    },
    "a volume": {"pccs": {"persistence": {"enabled": True, "storageClassName": "fast"}}},
    "places": {
        part: {
            "nodeSelector": {"a": "true", "b": "1"},
            "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 1000000}],
            "resources": {"limits": {"cpu": 2, "memory": "1Gi"}},
        }
        for part in ("nodeAgent", "aesm", "pccs", "webhook")
    },
    "nothing": {"nodeAgent": {"tolerations": [], "extraArgs": ['--a="b"', "x: y\\z"]}},
}


AUTHORITY = {"certificate": "-----BEGIN\nONE\n", "key": "KEY\n"}


def with_ca(values: dict[str, Any]) -> dict[str, Any]:
    return merged(values, {"webhook": {"authority": AUTHORITY}})


def key(item: dict[str, Any]) -> tuple[str, str, str]:
    meta = item["metadata"]
    return item["kind"], meta.get("namespace", ""), meta["name"]


def templates(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [item["spec"]["template"]] if item["kind"] in ("DaemonSet", "Deployment") else []


@pytest.mark.parametrize("namespace", ["kube-system", NAMESPACE])
@pytest.mark.parametrize("name", MATRIX)
def test_the_chart_renders_as_helm_renders_it(name: str, namespace: str, tmp_path: Path) -> None:
    values = with_ca(MATRIX[name])
    theirs = helm_template(values, tmp_path, namespace)
    ours = chart().objects(values, namespace=namespace, service="Helm")
    assert sorted(ours, key=key) == sorted(theirs, key=key)


def test_the_chart_is_of_this_version() -> None:
    assert chart().version == chart().app_version == ensconce.__version__


def test_every_object_is_labelled_and_in_a_namespace_of_the_chart() -> None:
    for values in MATRIX.values():
        for item in chart().objects(values):
            assert item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "ensconce"
            namespace = item["metadata"].get("namespace", NAMESPACE)
            assert namespace in (NAMESPACE, NODE_NAMESPACE) or item["kind"] in (
                "Role",
                "RoleBinding",
            )


def test_namespaces_come_first_and_the_webhook_last() -> None:
    kinds = [item["kind"] for item in chart().objects({})]
    assert kinds[:2] == ["Namespace", "Namespace"]
    assert kinds[-2:] == ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]
    assert kinds.index("ClusterRoleBinding") < kinds.index("DaemonSet")


def test_only_the_agent_has_a_token() -> None:
    mounted = {
        item["metadata"]["name"]
        for item in chart().objects({})
        for template in templates(item)
        if template["spec"]["automountServiceAccountToken"]
    }
    assert mounted == {"ensconce-node-agent"}


def test_no_container_is_privileged_unless_nodes_are_initialized() -> None:
    for name, values in MATRIX.items():
        text = json.dumps(chart().objects(values))
        assert ('"privileged": true' in text) == ("nodeInit" in values), name


def test_nothing_but_the_promised_folders_comes_from_the_host() -> None:
    objects = chart().objects(MATRIX["one emulated platform"])
    paths = set(re.findall(r'"hostPath": {"path": "([^"]*)"', json.dumps(objects)))
    assert paths <= {
        "/dev",
        "/run/ensconce",
        "/var/lib/ensconce",
        "/var/lib/kubelet/device-plugins",
        "/var/lib/kubelet/pod-resources",
        "/var/run/aesmd",
    }


def test_the_schema_is_one_and_knows_every_default() -> None:
    jsonschema.Draft202012Validator.check_schema(dict(chart().schema))
    assert chart().values({}) == chart().defaults


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("image.tagg=1", "image: Additional properties are not allowed ('tagg' was unexpected)"),
        ("emulated.epcMiB=3", "emulated.epcMiB: 3 is less than the minimum of 16"),
        ("pccs.replicas=2", "pccs.databaseSecret: '' should be non-empty"),
        ("image.repository=null", "image: 'repository' is a required property"),
        ("aesm.enabled=perhaps", "aesm.enabled: 'perhaps' is not of type 'boolean'"),
        ("pccs.url=http://x", "pccs.url: 'http://x' does not match"),
    ],
)
def test_wrong_values_are_refused_by_name(settings: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        chart().objects(load_values([], [settings]))


def test_values_are_laid_over_each_other(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("pccs: {replicas: 1, mode: lazy}\n")
    second.write_text("pccs: {mode: offline}\n")
    values = load_values([first, second], ["pccs.url=https://x", "aesm.nodeSelector={a: b}"])
    assert values == {
        "pccs": {"replicas": 1, "mode": "offline", "url": "https://x"},
        "aesm": {"nodeSelector": {"a": "b"}},
    }


@pytest.mark.parametrize("setting", ["a", "=1", "a..b=1", "a={", ".a=2"])
def test_a_setting_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_values([], [setting])


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "\t"])
def test_a_file_without_values_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"values\.yaml"):
        load_values([file], [])


def test_a_kind_without_an_order_is_refused() -> None:
    from ensconce.kube.install.template import Template

    other = Chart("x", "1", "1", {}, {}, [Template("kind: Job\nmetadata: {name: j}\n", "j.yaml")])
    with pytest.raises(ConfigError, match="makes a Job"):
        other.objects({})


def test_the_values_file_is_what_is_loaded() -> None:
    assert yaml.safe_load((chart_path() / "values.yaml").read_text()) == chart().defaults


def test_the_webhook_is_told_of_as_it_says_itself() -> None:
    for made, own in zip(chart().objects(with_ca({}))[-2:], configurations(b"x"), strict=True):
        for hook, expected in zip(made["webhooks"], own["webhooks"], strict=True):
            selector = hook["namespaceSelector"]["matchExpressions"]
            assert selector.pop() == {
                "key": "kubernetes.io/metadata.name",
                "operator": "NotIn",
                "values": [NAMESPACE, NODE_NAMESPACE],
            }
            for each in (hook, expected):
                each["clientConfig"].pop("caBundle")
                condition = each["matchConditions"][0]
                condition["expression"] = "".join(condition["expression"].split())
            assert hook == expected


def test_helm_makes_one_ca_and_tells_api_servers_of_it(tmp_path: Path) -> None:
    objects = helm_template({}, tmp_path, "kube-system")
    secret = next(e for e in objects if e["metadata"]["name"] == "ensconce-webhook-ca")
    (tmp_path / "tls.crt").write_bytes(base64.b64decode(secret["data"]["tls.crt"]))
    (tmp_path / "tls.key").write_bytes(base64.b64decode(secret["data"]["tls.key"]))
    assert Authority.load(tmp_path).issue(["a.svc"], datetime.now(UTC)).chain
    bundles = re.findall(r'"caBundle": "([^"]*)"', json.dumps(objects))
    assert bundles == [secret["data"]["tls.crt"]] * 4


def test_the_how_to_lists_every_value_with_its_default() -> None:
    text = (Path(__file__).parents[3] / "docs/kubernetes.md").read_text()
    listed = dict(re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", text, re.MULTILINE))
    assert listed == {name: json.dumps(value) for name, value in flat(chart().defaults)}


def flat(values: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict) and value and name not in ("resources", "overhead"):
            rows += flat(value, f"{path}{name}.")
        else:
            rows.append((f"{path}{name}", value))
    return rows
