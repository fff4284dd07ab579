# SPDX-License-Identifier: Apache-2.0
"""The command line of the OCI runtime, with runc's conventions: engines are its users.

It prints what engines read (state, features, lists) and says errors once on standard error and,
where there is one, in the engine's log.
"""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ensconce import __version__
from ensconce.errors import ConfigError, EnsconceError
from ensconce.node.runv import state

__all__ = ["main"]

_OCI_VERSION = "1.0.2"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args(arguments)
    logging.getLogger("ensconce.node.runv").handlers = [_Notices(options)]
    try:
        if getattr(options, "preserve_fds", 0):
            raise ConfigError(
                "--preserve-fds is not supported by ensconce-runv: descriptors of the host's can't "
                "be handed to a machine; leave it out"
            )
        return int(options.run(options) or 0)
    except EnsconceError as error:
        _complain(options, str(error))
        return 1


def _complain(options: argparse.Namespace, why: str) -> None:
    """Say what went wrong where the engine looks for it."""
    print(f"ensconce-runv: {why}", file=sys.stderr)
    if options.log:
        _log(options, "error", why)


def _log(options: argparse.Namespace, level: str, text: str) -> None:
    """Add a line to the engine's log."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    line = f'time="{now}" level={level} msg={json.dumps(text)}'
    if options.log_format == "json":
        line = json.dumps({"level": level, "msg": text, "time": now})
    with open(options.log, "a", encoding="utf-8") as log:  # noqa: PTH123
        log.write(line + "\n")


class _Notices(logging.Handler):
    """Sends warnings to the engine's log, or where there is none to standard error.

    Never to both: an engine takes this runtime's standard error for the container's.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(logging.WARNING)
        self._options = options

    def emit(self, record: logging.LogRecord) -> None:
        if self._options.log:
            _log(self._options, "warning", record.getMessage())
        else:
            print(f"ensconce-runv: {record.getMessage()}", file=sys.stderr)


def _create(options: argparse.Namespace) -> None:
    from ensconce.node.runv.launch import create

    create(options.root, options.id, options.bundle, options.console_socket, options.pid_file)


def _start(options: argparse.Namespace) -> None:
    from ensconce.node.runv.lifecycle import start

    start(options.root, options.id)


def _run(options: argparse.Namespace) -> int:
    from ensconce.node.runv.lifecycle import run

    return run(
        options.root,
        options.id,
        options.bundle,
        options.console_socket,
        options.pid_file,
        detach=options.detach,
    )


def _state(options: argparse.Namespace) -> None:
    print(json.dumps(state.describe(state.load(options.root, options.id)), indent=2))


def _kill(options: argparse.Namespace) -> None:
    from ensconce.node.runv.lifecycle import kill

    kill(options.root, options.id, _signal(options.signal), everyone=options.all)


def _delete(options: argparse.Namespace) -> None:
    from ensconce.node.runv.lifecycle import delete

    delete(options.root, options.id, force=options.force)


def _exec(options: argparse.Namespace) -> int:
    from ensconce.node.runv.launch import execute

    return execute(
        options.root,
        options.id,
        _process(options),
        console=options.console_socket,
        pid_file=options.pid_file,
        detach=options.detach,
    )


def _process(options: argparse.Namespace) -> dict[str, Any]:
    """Return the process that exec is to run: from a file, or from the container's own."""
    if options.process:
        loaded: dict[str, Any] = json.loads(Path(options.process).read_bytes())
        return loaded
    remembered = state.load(options.root, options.id)
    config = json.loads((Path(remembered.bundle) / "config.json").read_bytes())
    process: dict[str, Any] = config["process"]
    if not options.command:
        raise ConfigError("exec needs a command, or --process")
    process["args"] = options.command
    process["terminal"] = options.tty
    process["env"] = [*(process.get("env") or []), *options.env]
    if options.cwd:
        process["cwd"] = options.cwd
    if options.user:
        uid, _, gid = options.user.partition(":")
        process["user"] = {"uid": int(uid), "gid": int(gid or 0)}
    return process


def _list(options: argparse.Namespace) -> None:
    found = [state.describe(state.load(options.root, each)) for each in state.all_ids(options.root)]
    if options.format == "json":
        print(json.dumps(found))
        return
    print(f"{'ID':<20} {'PID':<8} {'STATUS':<8} BUNDLE")
    for each in found:
        print(f"{each['id']:<20} {each.get('pid', 0):<8} {each['status']:<8} {each['bundle']}")


def _features(_options: argparse.Namespace) -> None:
    from ensconce.node.runv.features import features

    print(json.dumps(features(), indent=2))


def _refuse(options: argparse.Namespace) -> None:
    raise ConfigError(
        f"{options.command_name} is not supported by ensconce-runv: a sandbox's machine is "
        "not changed or stopped in mid-run"
    )


def _signal(word: str) -> int:
    """Return a signal's number from its number or name."""
    if word.isdigit():
        return int(word)
    name = word.upper().removeprefix("SIG")
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise ConfigError(f"{word!r} is no signal; give a name like TERM, or a number") from None


def _parser() -> argparse.ArgumentParser:
    """Return the parser of runc's options and of its commands that are here."""
    parser = argparse.ArgumentParser(
        prog="ensconce-runv", description="OCI runtime: each pod in a virtual machine of its own."
    )
    parser.add_argument("--version", "-v", action="version", version=_version())
    parser.add_argument("--root", type=Path, default=state.default_root())
    parser.add_argument("--log")
    parser.add_argument("--log-format", choices=["text", "json"], default="text")
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--systemd-cgroup", action="store_true")
    parser.add_argument("--cgroup-manager")
    parser.add_argument("--rootless")
    commands = parser.add_subparsers(dest="command_name", required=True)
    _add_creators(commands)
    _add_others(commands)
    return parser


def _version() -> str:
    return f"ensconce-runv version {__version__}\nspec: {_OCI_VERSION}"


def _add_creators(commands: Any) -> None:
    for name, run in (("create", _create), ("run", _run)):
        parser = commands.add_parser(name)
        parser.add_argument("--bundle", "-b", type=Path, default=Path())
        parser.add_argument("--console-socket")
        parser.add_argument("--pid-file")
        parser.add_argument("--no-pivot", action="store_true")
        parser.add_argument("--no-new-keyring", action="store_true")
        parser.add_argument("--preserve-fds", type=int, default=0)
        parser.add_argument("--detach", "-d", action="store_true")
        parser.add_argument("id")
        parser.set_defaults(run=run)
    parser = commands.add_parser("exec")
    parser.add_argument("--process", "-p")
    parser.add_argument("--console-socket")
    parser.add_argument("--pid-file")
    parser.add_argument("--detach", "-d", action="store_true")
    parser.add_argument("--tty", "-t", action="store_true")
    parser.add_argument("--env", "-e", action="append", default=[])
    parser.add_argument("--cwd")
    parser.add_argument("--user", "-u")
    parser.add_argument("--preserve-fds", type=int, default=0)
    parser.add_argument("id")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    parser.set_defaults(run=_exec)


def _add_others(commands: Any) -> None:
    for name, run in (("start", _start), ("state", _state), ("ps", _refuse)):
        parser = commands.add_parser(name)
        parser.add_argument("id")
        parser.set_defaults(run=run)
    parser = commands.add_parser("kill")
    parser.add_argument("--all", "-a", action="store_true")
    parser.add_argument("id")
    parser.add_argument("signal", nargs="?", default="TERM")
    parser.set_defaults(run=_kill)
    parser = commands.add_parser("delete")
    parser.add_argument("--force", "-f", action="store_true")
    parser.add_argument("id")
    parser.set_defaults(run=_delete)
    parser = commands.add_parser("list")
    parser.add_argument("--format", "-f", choices=["table", "json"], default="table")
    parser.set_defaults(run=_list)
    commands.add_parser("features").set_defaults(run=_features)
    for name in ("pause", "resume", "checkpoint", "restore", "update", "events", "spec"):
        parser = commands.add_parser(name)
        parser.add_argument("rest", nargs=argparse.REMAINDER)
        parser.set_defaults(run=_refuse)
