# SPDX-License-Identifier: Apache-2.0
"""`ensconce cluster`: confidential clusters, from their creation to their removal."""

import click

from ensconce.cli import LazyGroup

__all__ = ["cluster"]


@click.group(
    cls=LazyGroup,
    lazy={
        "manifests": "ensconce.cli.cluster_install:manifests",
    },
)
def cluster() -> None:
    """Create a confidential cluster, install ensconce on one, and look after it."""
