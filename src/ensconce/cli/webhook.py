# SPDX-License-Identifier: Apache-2.0
"""`ensconce webhook`: the admission webhook for pods with SGX resources."""

import click

from ensconce.cli import LazyGroup

__all__ = ["webhook"]

_COMMANDS = ("serve", "authority", "manifest", "mutate")


@click.group(
    cls=LazyGroup, lazy={name: f"ensconce.cli.webhook_commands:{name}" for name in _COMMANDS}
)
def webhook() -> None:
    """Let pods with SGX resources run where they can, and refuse them where they can't.

    \b
    Example:
      ensconce webhook authority ca
      ensconce webhook serve --authority ca --policy webhook.toml
    """
