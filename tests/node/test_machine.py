# SPDX-License-Identifier: Apache-2.0
"""One machine, in full: real services, real containers, and what is killed comes back."""

import json
import os
import signal
import time
from typing import Any

import pytest
from tests.node.conftest import IMAGE, Box, pod

from ensconce.node.places import Places
from ensconce.node.processes import Process
from ensconce.node.supervisor import holder

pytestmark = pytest.mark.slow  # many services and containers, for minutes


def job(name: str, command: str, **spec: int) -> dict[str, Any]:
    one = pod(name, command)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {**spec, "template": {"spec": one["spec"]}},
    }


def test_a_pod_ends_with_its_containers_exit_code(box: Box) -> None:
    file = box.write(pod("seven", "echo out; echo more >&2; exit 7"))
    box("run", file, "--wait", code=7)
    assert box.pods()["seven"]["phase"] == "Failed"
    assert set(box("logs", "seven").split()) == {"out", "more"}
    box("stop", "seven")
    assert "seven" not in box.pods()


def test_a_job_runs_until_it_has_its_completions(box: Box) -> None:
    box("run", box.write(job("three", "exit 0", completions=3, parallelism=2)), "--wait")
    phases = [each["phase"] for name, each in box.pods().items() if name.startswith("three-")]
    assert phases == ["Succeeded"] * 3
    box("stop", "three")


def test_a_job_gives_up_at_its_backoff_limit(box: Box) -> None:
    box("run", box.write(job("bad", "exit 3", backoffLimit=1)), "--wait", code=3)
    phases = [each["phase"] for name, each in box.pods().items() if name.startswith("bad-")]
    assert phases == ["Failed"] * 2
    box("stop", "bad")


def test_a_deployment_replaces_nothing_and_restarts_what_ends(box: Box) -> None:
    one = pod("many", "sleep 100", restart="Always")
    template = {"metadata": {"labels": {"app": "many"}}, "spec": one["spec"]}
    selector = {"matchLabels": {"app": "many"}}
    spec = {"replicas": 2, "selector": selector, "template": template}
    box(
        "run",
        box.write(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "many"},
                "spec": spec,
            }
        ),
    )
    box.until(lambda pods: [each["phase"] for each in pods.values()] == ["Running"] * 2)
    name = box.podman("ps", "--format={{.Names}}").split()[0]
    box.podman("kill", name)
    pods = box.until(lambda pods: sum(each["restarts"] for each in pods.values()) == 1)
    assert len(pods) == 2
    box("stop", "many")


def test_environment_and_files_come_from_the_same_manifest(box: Box) -> None:
    one = pod("fed", 'echo "$A $B $NAME"; cat /etc/conf/key; echo x > /scratch/x; cat /scratch/x')
    container = one["spec"]["containers"][0]
    container["env"] = [
        {"name": "A", "value": "first"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "b"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    container["volumeMounts"] = [
        {"name": "conf", "mountPath": "/etc/conf", "readOnly": True},
        {"name": "scratch", "mountPath": "/scratch"},
    ]
    one["spec"]["volumes"] = [
        {"name": "conf", "configMap": {"name": "c"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    texts = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    data = [{**texts, "data": {"key": "value\n"}}, {**secret, "stringData": {"b": "second"}}]
    box("run", box.write(one, *data), "--wait")
    assert box("logs", "fed").splitlines() == ["first second fed", "value", "x"]
    box("stop", "fed")


def test_init_containers_run_first_and_containers_share_a_network(box: Box) -> None:
    one = pod("pair", "sleep 1; exit 0")
    other = {"name": "side", "image": IMAGE, "command": ["/bin/true"]}
    first = {"name": "first", "image": IMAGE, "command": ["/bin/sh", "-c", "echo early"]}
    one["spec"]["containers"].append(other)
    one["spec"]["initContainers"] = [first]
    box("run", box.write(one), "--wait")
    assert box("logs", "pair", "-c", "first").strip() == "early"
    told = json.loads(box("events", "--json"))
    started = [
        each["message"] for each in told if (each["object"], each["reason"]) == ("pair", "Started")
    ]
    assert started[0] == "container first"
    box("stop", "pair")


def test_epc_beyond_what_is_free_waits_with_the_reason_and_then_runs(box: Box) -> None:
    box("run", box.write(pod("large", "sleep 100", epc=24)))
    box.until(lambda pods: pods["large"]["phase"] == "Running")
    box("run", box.write(pod("next", "exit 0", epc=16)))
    pods = box.until(lambda pods: bool(pods.get("next", {}).get("reason")))
    assert pods["next"]["phase"] == "Pending"
    assert pods["next"]["message"] == "asks for 16 MiB of EPC, and of 32 MiB 8 are free"
    box("stop", "large")
    box.until(lambda pods: pods["next"]["phase"] == "Succeeded")
    box("stop", "next")


def test_a_container_with_epc_gets_the_platforms_socket(box: Box) -> None:
    box("run", box.write(pod("sgx", "env; test -S $ENSCONCE_SERVICE", epc=4)), "--wait")
    lines = box("logs", "sgx").splitlines()
    assert "ENSCONCE_SERVICE=/run/ensconce/service.sock" in lines
    assert "SGX_VISIBLE_DEVICES=0,1,2,3" in lines
    box("stop", "sgx")


def test_a_command_runs_in_a_container(box: Box) -> None:
    box("run", box.write(pod("open", "sleep 100")))
    box.until(lambda pods: pods["open"]["phase"] == "Running")
    found = json.loads(box("exec", "--json", "open", "/bin/sh", "-c", "echo in; exit 4", code=4))
    assert (found["stdout"], found["exit_code"]) == ("in\n", 4)
    box("stop", "open")


def test_up_again_adopts_what_runs(box: Box) -> None:
    before = box.up()["services"]
    assert box.up()["services"] == before


def test_every_process_may_be_killed_in_a_loop_of_runs_and_nothing_is_lost(box: Box) -> None:
    places = Places.find(box.environment)
    box("run", box.write(pod("steady", "sleep 1000", epc=4)))
    box.until(lambda pods: pods["steady"]["phase"] == "Running")
    names = list(box.up()["services"])
    for number, name in enumerate(names):
        box("run", box.write(job(f"run{number}", "sleep 1", completions=2)))
        process = holder(places, name)
        assert process is not None, name
        process.kill(signal.SIGKILL)
        box("run", box.write(job(f"late{number}", "exit 0")))
        until = time.monotonic() + 30
        while (now := holder(places, name)) is None or now == process:
            assert time.monotonic() < until, name
            time.sleep(0.1)
    wanted = 3 * len(names)
    pods = box.until(
        lambda pods: sum(each["phase"] == "Succeeded" for each in pods.values()) == wanted
    )
    assert (pods["steady"]["phase"], pods["steady"]["restarts"]) == ("Running", 0)
    assert len(pods) == wanted + 1  # nothing ran twice
    assert len(box.podman("ps", "--quiet").split()) == 1  # no orphan
    box("stop", "steady", *(f"{word}{n}" for n in range(len(names)) for word in ("run", "late")))


def test_workloads_run_on_after_down_and_up_and_nothing_is_left_between(box: Box) -> None:
    box("run", box.write(pod("again", "sleep 1000", epc=4, restart="Always")))
    box.until(lambda pods: pods["again"]["phase"] == "Running")
    pids = box.up()["services"].values()
    box("down")
    assert not any(Process.of(pid) for pid in pids)
    assert not box.podman("ps", "--all", "--quiet")
    box.up()
    pods = box.until(lambda pods: pods["again"]["restarts"] == 1)
    assert pods["again"]["phase"] == "Running"
    box("stop", "again")


def test_a_name_that_is_taken_or_an_image_that_is_not_here_is_refused(box: Box) -> None:
    one = pod("other", "exit 0")
    one["spec"]["containers"][0]["image"] = "nobody/nothing:1"
    said = box("run", box.write(one), code=3)
    assert "the image nobody/nothing:1 is not here; build it" in said
    box("run", box.write(pod("same", "exit 0")), "--wait")
    assert "same is here already" in box("run", box.write(pod("same", "exit 0")), code=3)
    box("stop", "same")


def test_a_process_that_has_ended_is_no_other_of_its_number() -> None:
    mine = Process.of(os.getpid())
    assert mine is not None
    assert mine.alive
    assert not Process(mine.pid, mine.start + 1).alive


@pytest.mark.parametrize("text", ["", "1", "a b", "1 2 3"])
def test_what_names_no_process_is_none(text: str) -> None:
    assert Process.parse(text) is None
