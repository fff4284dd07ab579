# SPDX-License-Identifier: Apache-2.0
"""`ensconce pccs`: the provisioning certificate caching service.

The commands are in a module of their own, so that the group can be named without the extra.
"""

import click

from ensconce.cli import LazyGroup

__all__ = ["pccs"]

_COMMANDS = ("serve", "refresh", "export", "import", "token", "status", "qcnl", "certificate")


@click.group(
    cls=LazyGroup,
    lazy={
        name: f"ensconce.cli.pccs_commands:{'import_' if name == 'import' else name}"
        for name in _COMMANDS
    },
)
def pccs() -> None:
    """Serve, fill and carry the collateral that DCAP attestation needs.

    \b
    Example:
      ensconce pccs token
      ensconce pccs serve --config pccs.toml
    """
