# SPDX-License-Identifier: Apache-2.0
import json
import os
import signal
import time
from pathlib import Path

import pytest
from tests.node.runv.bundles import Runtime, configuration

pytestmark = pytest.mark.slow  # machines boot, for a minute or more


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(pids: list[int]) -> bool:
    end = time.monotonic() + 10
    while not all(map(gone, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return all(map(gone, pids))


def test_a_container_has_a_kernel_of_its_own_and_its_streams_and_code_come_out(
    runtime: Runtime,
) -> None:
    done = runtime.run("sh", "-c", "uname -r; cat; echo bad >&2; exit 7", stdin="words\n")
    release, words = done.stdout.splitlines()
    assert release != os.uname().release
    assert words == "words"
    assert (done.stderr, done.returncode) == ("bad\n", 7)


def test_more_output_than_a_window_comes_out_whole(runtime: Runtime) -> None:
    done = runtime.run("sh", "-c", "i=0; while [ $i -lt 40000 ]; do echo $i; i=$((i+1)); done")
    assert done.stdout.split() == [str(each) for each in range(40000)]


def test_identity_host_name_and_limits_are_what_the_bundle_says(runtime: Runtime) -> None:
    process = {
        "user": {"uid": 1000, "gid": 100, "additionalGids": [5]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}],
        "capabilities": {"bounding": ["CAP_KILL"], "effective": [], "permitted": []},
    }
    script = "id -u; id -G; cat /proc/sys/kernel/hostname; ulimit -n; grep CapBnd /proc/self/status"
    done = runtime.run("sh", "-c", script.replace("grep", "busybox grep"), process=process)
    assert done.stdout.split() == ["1000", "100", "5", "box", "77", "CapBnd:", "0000000000000020"]


def test_a_read_only_root_refuses_writes_and_a_mount_takes_them(
    runtime: Runtime, tmp_path: Path
) -> None:
    mounts = [
        *configuration()["mounts"],
        {"destination": "/out", "type": "bind", "source": str(tmp_path), "options": ["rbind"]},
    ]
    done = runtime.run(
        "sh", "-c", "touch /no; touch /out/yes", root={"path": "rootfs", "readonly": True},
        mounts=mounts,
    )  # fmt: skip
    assert "Read-only file system" in done.stderr
    assert (tmp_path / "yes").exists()


def test_a_system_call_filter_holds_in_the_guest(runtime: Runtime) -> None:
    rules = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["uname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}],
    }
    done = runtime.run("uname", "-r", linux={"seccomp": rules})
    assert done.stdout == "\n"  # without the filter, the kernel's release


def test_a_program_that_is_not_there_is_named(runtime: Runtime) -> None:
    done = runtime.run("/bin/nothing")
    assert done.returncode == 1
    assert "/bin/nothing: No such file or directory" in done.stderr


def test_states_follow_the_specification(runtime: Runtime) -> None:
    runtime.start("two", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 1; done")
    assert json.loads(runtime("state", "two").stdout)["status"] == "running"
    ran = runtime("exec", "two", "sh", "-c", "echo inside; exit 9")
    assert (ran.stdout, ran.returncode) == ("inside\n", 9)
    assert "kill it" in runtime("delete", "two").stderr
    pid = runtime.pid("two")
    assert runtime("kill", "two", "TERM").returncode == 0
    assert wait_until_gone([pid])
    assert json.loads(runtime("state", "two").stdout)["status"] == "stopped"
    assert "container not running" in runtime("kill", "two", "KILL").stderr
    assert runtime("delete", "two").returncode == 0
    assert "does not exist" in runtime("state", "two").stderr


def test_whatever_is_killed_leaves_no_orphan(runtime: Runtime) -> None:
    for name, place in (("three", None), ("four", 0), ("five", 1)):
        runtime.start(name, "sleep", "1000")
        pid = runtime.pid(name)
        parts = [pid, *children(pid)]
        victim = pid if place is None else children(pid)[place]
        os.kill(victim, signal.SIGKILL)
        if place == 0:  # without its files the machine runs on, until it is told to end
            runtime("kill", name, "KILL")
        assert wait_until_gone(parts)
        assert runtime("delete", "--force", name).returncode == 0
        assert not (runtime.folder / "state" / name).exists()


def test_containers_of_one_pod_share_its_machine(runtime: Runtime) -> None:
    runtime.start("pod", "sleep", "1000")
    config = configuration("cat", "/proc/sys/kernel/random/boot_id")
    config["annotations"] = {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": "pod",
    }
    joined = runtime("run", "--bundle", str(runtime.bundle(config)), "joined")
    asked = runtime("exec", "pod", "cat", "/proc/sys/kernel/random/boot_id")
    assert joined.stdout == asked.stdout != ""


def test_hooks_run_around_a_containers_life_with_its_state(
    runtime: Runtime, tmp_path: Path
) -> None:
    def hook(moment: str) -> list[dict[str, object]]:
        return [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {tmp_path}/{moment}"]}]

    moments = ("prestart", "createRuntime", "poststart", "poststop")
    runtime.run("sleep", "0", hooks={each: hook(each) for each in moments})
    told = [json.loads((tmp_path / each).read_text())["status"] for each in moments]
    assert told == ["creating", "creating", "running", "stopped"]


def test_a_tmpfs_starts_as_the_image_has_it_where_tmpcopyup_says_so(runtime: Runtime) -> None:
    config = configuration(
        "sh", "-c", "cd /etc/words; cat note; readlink link; stat -c '%a %u' note;"
        "touch new && ls; touch /new"
    )  # fmt: skip
    options = ["nosuid", "tmpcopyup"]
    mount = {"destination": "/etc/words", "type": "tmpfs", "source": "tmpfs", "options": options}
    config["root"]["readonly"] = True
    config["mounts"].append(mount)
    bundle = runtime.bundle(config)
    words = bundle / "rootfs/etc/words"
    words.mkdir(parents=True)
    (words / "note").write_text("kept\n")
    (words / "note").chmod(0o4751)
    os.chown(words / "note", 12, 12)
    (words / "note").chmod(0o4751)
    (words / "link").symlink_to("/nowhere")
    (bundle / "rootfs/bin/stat").symlink_to("busybox")
    (bundle / "rootfs/bin/readlink").symlink_to("busybox")
    done = runtime("run", "--bundle", str(bundle), "one")
    assert done.stdout.split() == ["kept", "/nowhere", "4751", "12", "link", "new", "note"]
    assert "/new" in done.stderr
    assert not (words / "new").exists()
