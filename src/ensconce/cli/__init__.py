# SPDX-License-Identifier: Apache-2.0
"""The command line: parse, call the library, print. The only place that prints or exits."""

import importlib
import sys

import click

from ensconce import __version__
from ensconce.cli.exits import exit_code
from ensconce.errors import EnsconceError, ToolchainError

__all__ = ["LazyGroup", "cli", "main"]


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used, not before."""

    def __init__(self, *args: object, lazy: dict[str, str], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # click's own parameters
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of their declaration."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, name = self._lazy[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(
    cls=LazyGroup,
    lazy={
        "aesm": "ensconce.cli.aesm:aesm",
        "attest": "ensconce.cli.attest:attest",
        "cluster": "ensconce.cli.cluster:cluster",
        "device-plugin": "ensconce.cli.device_plugin:device_plugin",
        "doctor": "ensconce.cli.doctor:doctor",
        "down": "ensconce.cli.node:down",
        "enclave": "ensconce.cli.enclave:enclave",
        "events": "ensconce.cli.node_pods:events",
        "exec": "ensconce.cli.node_pods:exec_",
        "logs": "ensconce.cli.node_pods:logs",
        "node-agent": "ensconce.cli.node_agent:node_agent",
        "image": "ensconce.cli.image:image",
        "pccs": "ensconce.cli.pccs:pccs",
        "platform": "ensconce.cli.platform:platform",
        "node-service": "ensconce.cli.node:service",
        "ps": "ensconce.cli.node_pods:ps",
        "run": "ensconce.cli.node_pods:run",
        "sdk": "ensconce.cli.sdk:sdk",
        "stop": "ensconce.cli.node_pods:stop",
        "up": "ensconce.cli.node:up",
        "verify": "ensconce.cli.verify:verify",
        "webhook": "ensconce.cli.webhook:webhook",
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Confidential computing for Intel SGX, on SGX processors and on the emulated one.

    \b
    Example:
      ensconce doctor
      ensconce enclave inspect hello.signed.so --json
    """


def main(args: list[str] | None = None) -> None:
    """Run a command and exit with its code; an error is one sentence on standard error."""
    sys.exit(run(cli, args))


def run(command: click.Command, args: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        result = command.main(args=args, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        click.echo("interrupted; nothing half-written was left behind", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ToolchainError as error:
        click.echo(f"{error.output.rstrip()}\nerror: {error}".lstrip(), err=True)
        return exit_code(error)
    except EnsconceError as error:
        click.echo(f"error: {error}", err=True)
        return exit_code(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror or error}", err=True)
        return exit_code(error)
