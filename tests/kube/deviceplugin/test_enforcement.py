# SPDX-License-Identifier: Apache-2.0
"""The misc cgroup's limits, on folder trees as the kubelet's two drivers make them."""

from pathlib import Path

import pytest

from ensconce.errors import DeviceError
from ensconce.kube.deviceplugin.enforcement import MiscCgroup, Rung, rung
from ensconce.kube.names import Platform

UID = "1f0c9a4e-7d6b-4f7e-9a63-0d6c5a6f2b11"
CONTAINER = "ab12" * 16
UNDER = UID.replace("-", "_")
LAYOUTS = {
    "cgroupfs": (f"kubepods/pod{UID}", CONTAINER),
    "cgroupfs burstable": (f"kubepods/burstable/pod{UID}", CONTAINER),
    "systemd": (
        f"kubepods.slice/kubepods-pod{UNDER}.slice",
        f"cri-containerd-{CONTAINER}.scope",
    ),
    "systemd besteffort": (
        f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDER}.slice",
        f"crio-{CONTAINER}.scope",
    ),
    "a root of the kubelet's own": (f"node1/kubepods/pod{UID}", CONTAINER),
}


def tree(root: Path, layout: str, mount: str = "sys/fs/cgroup") -> tuple[Path, Path]:
    """A hierarchy with one pod and its container; their cgroups."""
    pod_name, container_name = LAYOUTS[layout]
    pod = root / mount / pod_name
    container = pod / container_name
    container.mkdir(parents=True)
    (root / mount / "misc.capacity").write_text("res_b 3\nsgx_epc 1048576\n")
    for folder in (container, *container.parents):
        if folder.is_relative_to(root / mount) and folder != root / mount:
            (folder / "misc.max").write_text("sgx_epc max\n")
    return pod, container


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mount", ["sys/fs/cgroup", "sys/fs/cgroup/misc"])
def test_a_pod_and_its_container_are_held_to_their_epc(
    tmp_path: Path, layout: str, mount: str
) -> None:
    pod, container = tree(tmp_path, layout, mount)
    cgroup = MiscCgroup.find(tmp_path)
    assert cgroup is not None
    assert cgroup.limit(UID, 65_537) == pod
    assert cgroup.limit(UID, 8192, CONTAINER) == container
    assert (pod / "misc.max").read_text().startswith("sgx_epc 65536\n")
    assert (container / "misc.max").read_text().startswith("sgx_epc 8192\n")


@pytest.mark.parametrize("text", ["", "res_b 3\n", "sgx_epc 0\n", "sgx_epc many\n", "\u00e9"])
def test_a_kernel_that_counts_no_epc_has_no_such_hierarchy(tmp_path: Path, text: str) -> None:
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/misc.capacity").write_text(text)
    assert MiscCgroup.find(tmp_path) is None


def test_a_pod_that_is_not_there_is_named(tmp_path: Path) -> None:
    tree(tmp_path, "cgroupfs")
    cgroup = MiscCgroup.find(tmp_path)
    assert cgroup is not None
    with pytest.raises(DeviceError, match="no cgroup of pod 0000"):
        cgroup.limit("0000", 4096)
    with pytest.raises(DeviceError, match="no cgroup of container"):
        cgroup.limit(UID, 4096, "0" * 64)


@pytest.mark.parametrize(
    ("uid", "container"), [("../..", ""), ("*", ""), ("", ""), (UID, "../x"), (UID, "*")]
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, uid: str, container: str) -> None:
    tree(tmp_path, "cgroupfs")
    cgroup = MiscCgroup.find(tmp_path)
    assert cgroup is not None
    with pytest.raises(DeviceError, match="names no pod's cgroup"):
        cgroup.limit(uid, 4096, container)


def test_a_limit_that_the_kernel_does_not_offer_is_not_made_up(tmp_path: Path) -> None:
    pod, _ = tree(tmp_path, "cgroupfs")
    (pod / "misc.max").unlink()
    cgroup = MiscCgroup.find(tmp_path)
    assert cgroup is not None
    with pytest.raises(DeviceError, match=r"misc\.max can't be written"):
        cgroup.limit(UID, 4096)
    assert not (pod / "misc.max").exists()


def test_the_rung_in_force_follows_from_platform_and_cgroup(tmp_path: Path) -> None:
    pod, _ = tree(tmp_path, "cgroupfs")
    cgroup = MiscCgroup.find(tmp_path)
    assert rung(Platform.SGX, cgroup) is Rung.MISC_CGROUP
    (pod.parent / "misc.max").unlink()
    assert rung(Platform.SGX, cgroup) is Rung.ADMISSION
    assert rung(Platform.SGX, None) is Rung.ADMISSION
    assert rung(Platform.EMULATED, cgroup) is Rung.EMULATED
    assert rung(Platform.NONE, None) is Rung.NONE


def test_epc_in_use_is_the_roots_figure_or_the_sum_below_it(tmp_path: Path) -> None:
    pod, _ = tree(tmp_path, "cgroupfs")
    mount = tmp_path / "sys/fs/cgroup"
    cgroup = MiscCgroup.find(tmp_path)
    assert cgroup is not None
    (pod.parent / "misc.current").write_text("sgx_epc 4096\n")
    assert cgroup.used == 4096
    (mount / "misc.current").write_text("sgx_epc 12288\n")
    assert cgroup.used == 12288
