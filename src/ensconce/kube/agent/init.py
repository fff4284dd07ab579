# SPDX-License-Identifier: Apache-2.0
"""Prepare a node for enclaves: what is to be done, found by looking, and doing just that.

The steps are idempotent: each looks at what is there, and a prepared node has nothing left to do.
The driver is the kernel's own and can't be installed: where it is missing, the step says so.
"""

import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensconce.errors import ConfigError, DeviceError
from ensconce.isa.cpuid import Registers
from ensconce.pccs.qcnl import qcnl_config
from ensconce.platform.checks import sgx_leaf

__all__ = ["Choice", "Plan", "Step", "apply", "chroot_runner", "plan"]

Runner = Callable[[Sequence[str]], "tuple[int, str]"]
"""Runs a command on the node; returns its exit status and what it printed."""

_RULES = Path("etc/udev/rules.d/91-ensconce-sgx.rules")
_RULES_TEXT = """\
# any container that was given the device may use it; platform-wide keys are for a group
SUBSYSTEM=="misc", KERNEL=="sgx_enclave", MODE="0666"
SUBSYSTEM=="misc", KERNEL=="sgx_provision", GROUP="sgx_prv", MODE="0660"
"""
_QCNL = Path("etc/sgx_default_qcnl.conf")
_PACKAGES = (
    "libsgx-urts",
    "libsgx-quote-ex",
    "libsgx-dcap-ql",
    "libsgx-dcap-default-qpl",
)
_SDK = "teesdk"
_APT_REPOSITORY = "https://download.01.org/intel-sgx/sgx_repo/ubuntu"
_KEYRING = "/etc/apt/keyrings/intel-sgx.asc"
_UBUNTU_OF = {"bookworm": "jammy", "bullseye": "focal"}  # whose packages run on a Debian
_SERVICE = "aesmd.service"
_UNITS = ("usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the node shall have besides the driver.

    `pccs` is the URL of a PCCS, `region` Alibaba's, which names both its PCCS and its packages;
    `vpc` says that the node reaches these in its VPC only. `own_certificate` is the PCCS's.
    """

    pccs: str = ""
    region: str = ""
    vpc: bool = False
    own_certificate: bool = False
    packages: bool = True
    sdk: bool = False

    @property
    def collateral(self) -> str:
        """The PCCS to ask."""
        if self.pccs or not self.region:
            return self.pccs
        suffix = "-vpc" if self.vpc else ""
        return f"https://sgx-dcap-server{suffix}.{self.region}.aliyuncs.com"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: commands to run and a file to write, or why it can't be done (`fault`)."""

    name: str
    detail: str
    commands: tuple[tuple[str, ...], ...] = ()
    file: str = ""
    content: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done on a node; `sgx` is whether its processor has it."""

    sgx: bool
    distribution: str
    steps: tuple[Step, ...] = ()


def plan(
    root: Path, choice: Choice, run: Runner, cpuid: Callable[[int, int], Registers] | None
) -> Plan:
    """Return what is left to do on the node whose files are under `root`.

    Raises ConfigError for a distribution whose packages are not known.
    """
    name, codename = _distribution(root)
    if cpuid is None or sgx_leaf(cpuid) is None:
        return Plan(sgx=False, distribution=name)
    steps = [*_driver(root), *_rules(root, run)]
    if choice.packages:
        steps += _packages(name, codename, choice, run)
    steps += [*_collateral(root, choice), *_service(root, run)]
    return Plan(sgx=True, distribution=name, steps=tuple(steps))


def apply(made: Plan, root: Path, run: Runner, say: Callable[[str], None]) -> None:
    """Do what a plan says. Raises DeviceError for what can't be done, or fails."""
    for step in made.steps:
        say(f"{step.name}: {step.detail}")
        if step.fault:
            raise DeviceError(f"{step.name}: {step.fault}")
        if step.file:
            path = root / step.file.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.new")
            draft.write_text(step.content)
            draft.chmod(0o644)
            draft.rename(path)
        for command in step.commands:
            status, output = run(command)
            if status:
                last = (output.strip().splitlines() or ["no output"])[-1]
                raise DeviceError(f"`{' '.join(command)}` failed on this node: {last}")


def chroot_runner(root: Path) -> Runner:
    """Return what runs commands on the node whose files are under `root`."""
    prefix = [] if root == Path("/") else ["chroot", str(root)]

    def run(command: Sequence[str]) -> tuple[int, str]:
        try:
            done = subprocess.run(  # noqa: S603  # the commands are this module's own
                [*prefix, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                check=False,
            )
        except OSError as error:
            return 127, f"{command[0]}: {error.strerror}"
        return done.returncode, done.stdout

    return run


def _distribution(root: Path) -> tuple[str, str]:
    """Return a distribution's name and codename."""
    path = root / "etc/os-release"
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"{path} does not tell the distribution: {error.strerror}") from error
    fields = {
        name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)
    }
    return fields.get("ID", "unknown"), fields.get("VERSION_CODENAME", "")


def _driver(root: Path) -> Iterator[Step]:
    """Look for the kernel's driver."""
    try:
        if stat.S_ISCHR((root / "dev/sgx_enclave").stat().st_mode):
            return
    except OSError:
        pass
    yield Step(
        "driver",
        "the kernel has no /dev/sgx_enclave",
        fault="use Linux 5.11 or later with CONFIG_X86_SGX, enable SGX and flexible launch "
        "control in the firmware, and restart the node",
    )


def _rules(root: Path, run: Runner) -> Iterator[Step]:
    """See to the group and the modes of the device nodes."""
    if run(("getent", "group", "sgx_prv"))[0]:
        yield Step(
            "group", "make the group sgx_prv", (("groupadd", "--system", "--force", "sgx_prv"),)
        )
    if not _holds(root / _RULES, _RULES_TEXT):
        yield Step(
            "udev",
            f"write /{_RULES}",
            (
                ("udevadm", "control", "--reload"),
                ("udevadm", "trigger", "--subsystem-match=misc", "--settle"),
            ),
            f"/{_RULES}",
            _RULES_TEXT,
        )


def _packages(name: str, codename: str, choice: Choice, run: Runner) -> Iterator[Step]:
    """See to the vendor's runtime, and to the TEE SDK where it is wanted."""
    wanted = [*_PACKAGES, *([_SDK] if choice.sdk else [])]
    if name in ("debian", "ubuntu"):
        missing = [each for each in wanted if run(("dpkg-query", "--status", each))[0]]
        if choice.sdk:
            raise ConfigError(
                f"the TEE SDK is packaged for Alibaba Cloud Linux, not for {name}; "
                "`ensconce sdk path` has one that needs no package"
            )
        if missing:
            yield from _apt(_UBUNTU_OF.get(codename, codename), missing, run)
    elif name in ("alinux", "anolis", "centos", "rhel", "rocky", "almalinux", "fedora"):
        missing = [each for each in wanted if run(("rpm", "--query", each))[0]]
        if missing:
            yield from _yum(choice, missing, run)
    else:
        raise ConfigError(
            f"the SGX packages of {name!r} are not known; install them by hand and use "
            "--no-packages"
        )


def _apt(codename: str, missing: Sequence[str], run: Runner) -> Iterator[Step]:
    """Install with apt, from the vendor's repository where no other has the packages."""
    if run(("apt-cache", "show", missing[0]))[0]:
        source = f"deb [arch=amd64 signed-by={_KEYRING}] {_APT_REPOSITORY} {codename} main\n"
        key = f"{_APT_REPOSITORY}/intel-sgx-deb.key"
        yield Step(
            "repository",
            f"use {_APT_REPOSITORY}",
            (
                ("install", "-d", "/etc/apt/keyrings"),
                ("curl", "--fail", "--silent", "--show-error", "--output", _KEYRING, key),
            ),
            "/etc/apt/sources.list.d/intel-sgx.list",
            source,
        )
    yield Step(
        "packages",
        f"install {', '.join(missing)}",
        (
            ("apt-get", "--quiet", "update"),
            ("apt-get", "--quiet", "--yes", "--no-install-recommends", "install", *missing),
        ),
    )


def _yum(choice: Choice, missing: Sequence[str], run: Runner) -> Iterator[Step]:
    """Install with yum, from Alibaba's repository where a region is named and no other has them."""
    if choice.region and run(("yum", "--quiet", "list", missing[0]))[0]:
        inner = "-internal" if choice.vpc else ""
        url = (
            f"https://enclave-{choice.region}.oss-{choice.region}{inner}.aliyuncs.com"
            "/repo/alinux/enclave-expr.repo"
        )
        yield Step("repository", f"use {url}", (("yum-config-manager", "--add-repo", url),))
    yield Step(
        "packages",
        f"install {', '.join(missing)}",
        (("yum", "--quiet", "--assumeyes", "install", *missing),),
    )


def _collateral(root: Path, choice: Choice) -> Iterator[Step]:
    """See to the file that names the PCCS."""
    if not choice.collateral:
        return
    content = qcnl_config(choice.collateral, own_certificate=choice.own_certificate)
    if not _holds(root / _QCNL, content):
        detail = f"write /{_QCNL} for {choice.collateral}"
        yield Step("qcnl", detail, (), f"/{_QCNL}", content)


def _service(root: Path, run: Runner) -> Iterator[Step]:
    """See to it that the host's own AESM does not take the socket from the cluster's."""
    if not any((root / folder / _SERVICE).exists() for folder in _UNITS):
        return
    if run(("systemctl", "is-enabled", _SERVICE))[0] == 0:
        yield Step(
            "aesmd",
            "end the host's own AESM: the cluster's has the same socket",
            (("systemctl", "disable", "--now", _SERVICE),),
        )


def _holds(path: Path, content: str) -> bool:
    """Return whether a file has just this content."""
    try:
        return path.read_text() == content
    except (OSError, ValueError):
        return False
