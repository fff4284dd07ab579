# SPDX-License-Identifier: Apache-2.0
"""Hooks of config.json: programs of the host that are run around a container's life."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from ensconce.errors import DeviceError
from ensconce.node.runv import state

__all__ = ["run_hooks"]


def run_hooks(record: state.Record, when: str, status: str) -> None:
    """Run a moment's hooks in order, each with the container's state on its standard input.

    Raises DeviceError where one fails.
    """
    told = json.dumps({**state.describe(record), "status": status}).encode()
    for hook in record.hooks.get(when) or []:
        _run(hook, told, when)


def _run(hook: Mapping[str, Any], told: bytes, when: str) -> None:
    """Run one hook: its own arguments, environment (none else) and time limit in seconds."""
    words = list(hook.get("args") or [hook["path"]])
    environment = dict(each.partition("=")[::2] for each in hook.get("env") or [])
    try:
        subprocess.run(  # noqa: S603
            words, executable=hook["path"], input=told, env=environment, check=True,
            timeout=hook.get("timeout"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise DeviceError(f"hooks.{when}: {hook['path']} failed: {error}") from error
