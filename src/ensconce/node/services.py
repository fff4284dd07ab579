# SPDX-License-Identifier: Apache-2.0
"""The services of one machine, as commands: what `ensconce up` sees to."""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from ensconce.errors import ConfigError, DeviceError
from ensconce.machine import identity
from ensconce.machine.processor import default_epc_size
from ensconce.node.keeper import KEEPER
from ensconce.node.places import Places
from ensconce.node.store import write_whole
from ensconce.node.supervisor import SUPERVISOR, Service, command_line, holder, start_supervisor
from ensconce.platform.quoting import EmulatedPlatform
from ensconce.sdk.host_libraries import host_libraries

__all__ = ["Settings", "default_epc_mib", "down", "services", "standing", "up"]

_MIB = 1 << 20
_PCS = "/sgx/certification/v4/"
_DEVICE = Path("/dev/sgx_enclave")
_READY_SECONDS = 60.0
_DOWN_SECONDS = 120.0
_PAUSE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `up` was told: EPC in MiB, the PCCS's and the test PCS's ports, the engine."""

    epc_mib: int
    pccs_port: int
    pcs_port: int
    engine: str

    @classmethod
    def load(cls, places: Places) -> "Settings":
        """Return the settings of the last `up`. Raises ConfigError."""
        try:
            return cls(**json.loads(places.settings.read_bytes()))
        except FileNotFoundError:
            raise ConfigError("this machine is not up; run `ensconce up` first") from None
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{places.settings} is damaged; run `ensconce up` anew") from error


def services(places: Places, settings: Settings) -> list[Service]:
    """Return the services in the order in which they start."""
    path = str(identity.default_path())
    emulated = not _DEVICE.exists()
    own = f"http://127.0.0.1:{settings.pcs_port}{_PCS}"
    made = [
        Service(KEEPER, command_line("node-service", "keep")),
        Service(
            "epc",
            command_line(
                "node-agent",
                "run",
                "--no-cluster",
                "--node=localhost",
                f"--folder={places.platform}",
                f"--host-folder={places.platform}",
                f"--libraries={places.state / 'host-libraries'}",
                f"--library-folder={places.libraries}",
                f"--aesm-socket={places.aesm / 'aesm.socket'}",
                f"--plugin-folder={places.plugins}",
                f"--pod-resources={places.run / 'none.sock'}",
                "--enclave-limit=0",
                *(["--platform=emulated", f"--emulated-mib={settings.epc_mib}"] * emulated),
            ),
        ),
        Service(
            "aesm",
            command_line(
                "aesm",
                "serve",
                f"--socket={places.aesm / 'aesm.socket'}",
                f"--backend={'emulated' if emulated else 'hardware'}",
                f"--path={path}",
            ),
        ),
    ]
    pccs = ["pccs", "serve", "--read-only", f"--port={settings.pccs_port}"]
    pccs.append(f"--database=sqlite:///{places.state / 'pccs.sqlite'}")
    if emulated:
        node = ["platform", "node", f"--folder={places.platform}", f"--epc={settings.epc_mib}"]
        made.insert(0, Service("platform", command_line(*node, f"--path={path}")))
        pcs = ["platform", "pcs", "serve", f"--path={path}", f"--port={settings.pcs_port}"]
        made.append(Service("pcs", command_line(*pcs)))
        pccs += ["--upstream=pcs", f"--url={own}", f"--root-ca={places.state / 'root.der'}"]
    return [*made, Service("pccs", command_line(*pccs))]


def up(places: Places, settings: Settings) -> None:
    """Start what does not run, adopt what does, and wait until all serve.

    Raises ConfigError for settings that differ from those of what runs, DeviceError where
    something does not come up.
    """
    places.prepare()
    if holder(places, SUPERVISOR) is not None and Settings.load(places) != settings:
        raise ConfigError("this machine is up with other settings; `ensconce down` first")
    found = identity.load_or_create(identity.default_path())
    if not _DEVICE.exists():
        root = EmulatedPlatform.of(found).pcs.root.certificate()
        write_whole(places.state / "root.der", root.public_bytes(Encoding.DER))
        _link(places.state / "host-libraries", host_libraries())
    write_whole(places.settings, json.dumps(asdict(settings)).encode())
    places.down.unlink(missing_ok=True)
    start_supervisor(places)
    deadline = time.monotonic() + _READY_SECONDS
    while missing := _missing(places, settings):
        if time.monotonic() > deadline:
            raise DeviceError(f"{missing} does not serve; {places.logs / missing}.log says why")
        time.sleep(_PAUSE)


def _link(path: Path, target: Path) -> None:
    """Make a link, whatever was there."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(path)


def _missing(places: Places, settings: Settings) -> str:
    """Return a service that does not serve yet."""
    for service in services(places, settings):
        if holder(places, service.name) is None:
            return service.name
    if not (places.aesm / "aesm.socket").exists():
        return "aesm"
    plugin = places.plugins / "sgx.sock"
    return "" if plugin.exists() else "epc"


def standing(places: Places) -> dict[str, Any]:
    """Return which services run, and the EPC's use."""
    settings = Settings.load(places)
    running = {}
    for name in (SUPERVISOR, *(each.name for each in services(places, settings))):
        process = holder(places, name)
        running[name] = process.pid if process else None
    made: dict[str, Any] = {"services": running, "engine": settings.engine}
    made["pccs"] = f"http://127.0.0.1:{settings.pccs_port}{_PCS}"
    made["aesm"] = places.aesm / "aesm.socket"
    made["epc_mib"] = settings.epc_mib
    if not _DEVICE.exists():
        made["emulated"] = True
    return made


def down(places: Places) -> bool:
    """End all containers and services, and wait for that; return whether anything ran."""
    if holder(places, SUPERVISOR) is None and holder(places, KEEPER) is None:
        return False
    places.down.touch(mode=0o600)
    deadline = time.monotonic() + _DOWN_SECONDS
    names = [SUPERVISOR, *(each.name for each in services(places, Settings.load(places)))]
    running = [process for name in names if (process := holder(places, name))]
    while left := [name for name in names if holder(places, name) is not None]:
        if time.monotonic() > deadline:
            raise DeviceError(f"{', '.join(left)} did not end; see {places.logs}")
        time.sleep(_PAUSE)
        if left != [SUPERVISOR] and SUPERVISOR not in left:
            start_supervisor(places)
    return all(process.wait(_PAUSE * 100) for process in running)  # locks go before processes


def default_epc_mib() -> int:
    """Return the EPC where nobody says."""
    return default_epc_size() // _MIB
