# SPDX-License-Identifier: Apache-2.0
"""The guest's kernel, its modules, and the initial RAM disk with the agent: found or made once.

The kernel is Debian's for clouds. One that is installed is taken as it is; else the package is
downloaded by apt and unpacked, not installed. The agent is compiled from `guest/` and kept under a
hash of its sources.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from ensconce.errors import ConfigError, ToolchainError

__all__ = ["Kernel", "build_agent", "cache_folder", "find_kernel", "prepare"]

_PACKAGE = "linux-image-cloud-amd64"
_SOURCES = Path(__file__).parent / "guest"
_FLAGS = ["-static", "-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-s"]
# In this order: each needs those before it. A kernel has some of them built in.
_MODULES = (
    "virtio_ring", "virtio", "virtio_mmio", "virtio_console", "failover", "net_failover",
    "virtio_net", "fuse", "virtiofs", "virtio_blk", "crc32c_generic", "libcrc32c", "erofs",
    "overlay", "virtio-rng",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kernel:
    """A guest's kernel and its initial RAM disk; `release` is what `uname -r` says in the guest."""

    image: Path
    ramdisk: Path
    release: str


def cache_folder() -> Path:
    """Return the folder for what can be made again: of the machine for root, of the user else."""
    named = os.environ.get("ENSCONCE_RUNV_CACHE")
    if named:
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/cache/ensconce/runv")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Path(base) / "ensconce" / "runv"


def prepare(folder: Path | None = None) -> Kernel:
    """Return the kernel and RAM disk, made now where they are not there yet.

    Raises ConfigError where there is no kernel to be had, ToolchainError where no agent is.
    """
    folder = folder or cache_folder()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pods that start at once would all compile the agent
        image, modules, release = find_kernel(folder)
        ramdisk = folder / f"ramdisk-{release}-{_sources_hash()}"
        if not ramdisk.exists():
            files = {"init": build_agent(folder).read_bytes()}
            for place, module in enumerate(_module_files(modules)):
                files[f"modules/{place:02}-{module.name}"] = module.read_bytes()
            _write_whole(ramdisk, _archive(files))
    return Kernel(image, ramdisk, release)


def find_kernel(folder: Path) -> tuple[Path, Path, str]:
    """Return a kernel's image, its folder of modules and its release."""
    for root in (Path("/"), folder / "kernel"):
        for image in sorted(root.glob("boot/vmlinuz-*-cloud-amd64"), reverse=True):
            release = image.name.removeprefix("vmlinuz-")
            modules = root / "lib/modules" / release
            if modules.is_dir():
                return image, modules, release
    _download(folder)
    return find_kernel(folder)


def build_agent(folder: Path) -> Path:
    """Return the agent's program, compiled where these sources were not yet."""
    program = folder / f"agent-{_sources_hash()}"
    if program.exists():
        return program
    sources = [str(path) for path in sorted(_SOURCES.glob("*.c"))]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / "agent"
        command = [*_compiler(), *_FLAGS, "-o", str(made), *sources]
        environment = {
            **os.environ,
            "ZIG_GLOBAL_CACHE_DIR": f"{folder}/zig",
            "ZIG_LOCAL_CACHE_DIR": f"{folder}/zig",
        }
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, env=environment, check=False
        )
        if done.returncode:
            raise ToolchainError("Could not compile the guest's agent", output=done.stderr)
        made.rename(program)
    return program


def _compiler() -> list[str]:
    """Return a C compiler that links statically."""
    found = util.find_spec("ziglang")
    if found and found.origin:
        return [str(Path(found.origin).parent / "zig"), "cc", "-target", "x86_64-linux-musl"]
    gcc = shutil.which("gcc")
    if gcc:
        return [gcc]
    raise ToolchainError(
        "The guest's agent needs a C compiler once; pip install 'ensconce[sdk]', or apt install gcc"
    )


def _download(folder: Path) -> None:
    """Unpack Debian's kernel for clouds into the cache."""
    if not shutil.which("apt-get"):
        raise ConfigError(
            f"There is no kernel for guests: install {_PACKAGE}, or put boot/vmlinuz-*-cloud-amd64 "
            f"and its lib/modules into {folder}/kernel"
        )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            wanted = _run(["apt-cache", "depends", "--important", _PACKAGE], folder)
            name = wanted.split("Depends:")[1].split()[0]
            Path(scratch).chmod(0o755)
            _run(["apt-get", "-qq", "download", name], Path(scratch))
            package = next(Path(scratch).glob("*.deb"))
            _run(["dpkg-deb", "-x", str(package), f"{scratch}/kernel"], folder)
        except (IndexError, StopIteration, subprocess.CalledProcessError) as error:
            raise ConfigError(
                f"apt can't give {_PACKAGE}, the guests' kernel: run apt-get update, or install it"
            ) from error
        with contextlib.suppress(FileExistsError, OSError):  # another one was faster
            (Path(scratch) / "kernel").rename(folder / "kernel")


def _run(command: list[str], cwd: Path) -> str:
    """Run a command and return its output."""
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout


def _module_files(modules: Path) -> list[Path]:
    """Return the modules that a guest needs and this kernel has not built in."""
    index = {path.name.split(".ko")[0]: path for path in modules.rglob("*.ko")}
    return [index[name] for name in _MODULES if name in index]


def _sources_hash() -> str:
    """Return a short hash of all that the RAM disk is made of besides the kernel."""
    digest = hashlib.sha256(repr((_FLAGS, _MODULES)).encode())
    for path in sorted(_SOURCES.glob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _archive(files: dict[str, bytes]) -> bytes:
    """Return a cpio archive (newc) of these files and what a kernel wants besides."""
    console = _entry("dev/console", 0o020600, b"", (5, 1))
    folders = [_entry(name, 0o040755, b"") for name in ("dev", "modules")]
    body = [_entry(name, 0o100755, data) for name, data in files.items()]
    return b"".join([*folders, console, *body, _entry("TRAILER!!!", 0, b"")])


def _entry(name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> bytes:
    """Return one entry of a newc archive, with its padding."""
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def _write_whole(path: Path, data: bytes) -> None:
    """Put a file in place that is never seen in part."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as made:
        made.write(data)
    Path(made.name).chmod(0o644)
    Path(made.name).rename(path)
