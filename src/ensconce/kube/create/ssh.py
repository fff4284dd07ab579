# SPDX-License-Identifier: Apache-2.0
"""Scripts on other machines by the system's ssh, with the user's keys, agent and known hosts.

A script goes in by standard input, never by the command line, which others on a machine can read.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from ensconce.errors import ConfigError, ServiceError

__all__ = ["Ssh"]

_MAX_OUTPUT = 1 << 20
_UNREACHED = 255  # ssh's own exit code


@dataclass(frozen=True, slots=True)
class Ssh:
    """How machines are reached; a host that is not in known_hosts is refused."""

    user: str
    key: str | None = None
    config: str | None = None

    def run(self, host: str, script: str, *, what: str, timeout: float = 900) -> str:
        """Run a shell script as root on `host` or `host:port`; return its standard output."""
        # read whole before it runs: none is cut in half, and no command in it reads the rest
        whole = f"main() {{\n{script}\n}}\nmain </dev/null\n"
        try:
            result = subprocess.run(  # noqa: S603  # arguments are checked settings
                self.command(host), input=whole, capture_output=True, text=True, timeout=timeout,
                check=False, errors="replace",
            )  # fmt: skip
        except FileNotFoundError:
            raise ConfigError("there is no ssh here; apt install openssh-client") from None
        except subprocess.TimeoutExpired:
            raise ServiceError(
                f"{host}: {what} took longer than {timeout / 60:.0f} minutes; look at the machine, "
                "then run this again"
            ) from None
        said = " | ".join(result.stderr.strip().splitlines()[-3:])[:600] or "it said nothing"
        if result.returncode == _UNREACHED:
            raise ServiceError(
                f"{host} can't be reached by ssh ({said}); see that `ssh {self.user}@{host}` works "
                "without a question"
            )
        if result.returncode:
            raise ServiceError(f"{host}: {what} failed ({said}); mend that and run this again")
        return result.stdout[:_MAX_OUTPUT]

    def command(self, host: str) -> list[str]:
        """Return the command that takes a script by standard input and runs it as root."""
        name, _, port = host.partition(":")
        command = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        command += ["-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15"]
        if self.config:
            command += ["-F", str(Path(self.config).expanduser())]
        if self.key:
            command += ["-i", str(Path(self.key).expanduser()), "-o", "IdentitiesOnly=yes"]
        if port:
            command += ["-p", port]
        shell = "/bin/sh -eu" if self.user == "root" else "sudo -n /bin/sh -eu"
        return [*command, "-l", self.user, "--", name, shell]
