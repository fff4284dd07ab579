# SPDX-License-Identifier: Apache-2.0
"""`ensconce cluster`: confidential clusters, from their creation to their removal."""

import click

from ensconce.cli import LazyGroup

__all__ = ["cluster"]


@click.group(
    cls=LazyGroup,
    lazy={
        "manifests": "ensconce.cli.cluster_install:manifests",
        "create": "ensconce.cli.cluster_create:create",
        "delete": "ensconce.cli.cluster_create:delete",
        "list": "ensconce.cli.cluster_create:list_clusters",
        "show": "ensconce.cli.cluster_create:show",
        "install": "ensconce.cli.cluster_install:install",
        "upgrade": "ensconce.cli.cluster_install:upgrade",
        "rollback": "ensconce.cli.cluster_install:rollback",
        "status": "ensconce.cli.cluster_install:status",
        "uninstall": "ensconce.cli.cluster_install:uninstall",
        "takeover": "ensconce.cli.cluster_takeover:takeover",
        "doctor": "ensconce.cli.cluster_install:doctor",
    },
)
def cluster() -> None:
    """Create a confidential cluster, install ensconce on one, and look after it."""
