# SPDX-License-Identifier: Apache-2.0
"""Where this machine's pods and services keep what they are: state that lasts, and sockets."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ensconce.errors import ConfigError

__all__ = ["FOLDER_VARIABLE", "Places"]

FOLDER_VARIABLE = "ENSCONCE_NODE"
_LONGEST = 60  # a socket's path takes 107 bytes, and 47 come after


@dataclass(frozen=True, slots=True)
class Places:
    """The two folders: `state` survives a reboot, `run` need not."""

    state: Path
    run: Path

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> "Places":
        """Return $ENSCONCE_NODE's folders, or those that XDG names. Raises ConfigError."""
        if folder := environment.get(FOLDER_VARIABLE):
            base = Path(folder).absolute()
            found = cls(base / "state", base / "run")
        else:
            home = Path(environment.get("HOME", "~")).expanduser()
            state = Path(environment.get("XDG_STATE_HOME") or home / ".local/state")
            run = environment.get("XDG_RUNTIME_DIR")
            state = state / "ensconce" / "node"
            found = cls(state, Path(run) / "ensconce-node" if run else state / "run")
        if len(os.fsencode(found.run)) > _LONGEST:
            raise ConfigError(
                f"{found.run} is too long for sockets in it; name a folder of at most "
                f"{_LONGEST - 4} bytes by {FOLDER_VARIABLE}"
            )
        return found

    def prepare(self) -> None:
        """Make the folders, for this user alone. Raises OSError."""
        for folder in (
            self.state,
            self.run,
            self.workloads,
            self.pods,
            self.logs,
            self.plugins,
            self.aesm,
            self.locks,
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.run.chmod(0o711)  # containers' users pass through to what is mounted for them
        self.aesm.chmod(0o755)

    @property
    def workloads(self) -> Path:
        """What was asked for, one file each."""
        return self.state / "workloads"

    @property
    def pods(self) -> Path:
        """What became of it, one file and one folder a pod."""
        return self.state / "pods"

    @property
    def logs(self) -> Path:
        """The services' logs."""
        return self.state / "logs"

    @property
    def events(self) -> Path:
        """What happened, one JSON object a line."""
        return self.state / "events.jsonl"

    @property
    def settings(self) -> Path:
        """What `up` was told."""
        return self.state / "settings.json"

    @property
    def libraries(self) -> Path:
        """The host libraries that containers get."""
        return self.state / "lib"

    @property
    def locks(self) -> Path:
        """One file a service, locked by it for as long as it lives."""
        return self.run / "locks"

    @property
    def plugins(self) -> Path:
        """The device plugins' folder, with the accountant's socket in a kubelet's place."""
        return self.run / "plugins"

    @property
    def platform(self) -> Path:
        """The emulated platform's folder."""
        return self.run / "platform"

    @property
    def aesm(self) -> Path:
        """AESM's folder."""
        return self.run / "aesm"

    @property
    def down(self) -> Path:
        """There while everything is to end."""
        return self.run / "down"
