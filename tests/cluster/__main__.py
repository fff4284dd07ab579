# SPDX-License-Identifier: Apache-2.0
"""Run clusters for tests: `python -m tests.cluster --help`."""

import argparse
import json
import os
import sys
from pathlib import Path

from tests.cluster.harness import components, lifecycle, namespaces
from tests.cluster.harness.build import build
from tests.cluster.harness.failure import HarnessError
from tests.cluster.harness.layout import Cluster, Options


def main() -> None:
    """Do what the command line says."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except HarnessError as error:
        sys.exit(f"cluster: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description="Run a real Kubernetes for tests, as root."
    )
    parser.add_argument("--name", default=os.environ.get("NAME") or "main", help="which cluster")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: object, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    add("build", _build, "build the programs, where that isn't done")
    made = add("up", _up, "bring the cluster up, or adopt one that is up")
    made.add_argument("--nodes", type=int, default=1)
    made.add_argument(
        "--runtime",
        action="append",
        default=[],
        metavar="HANDLER=PROGRAM",
        help="an OCI runtime that a RuntimeClass can name",
    )
    made.add_argument("--kubelet", type=json.loads, default={}, help="JSON over its configuration")
    made.add_argument("--gate", action="append", default=[], metavar="FEATURE=true|false")
    add("down", _down, "take the cluster down, leaving nothing")
    add("status", _status, "tell which components run")
    add("env", _env, "print what a shell needs: eval $(… env)")
    made = add("load-image", _load, "import OCI archives on the nodes")
    made.add_argument("file", nargs="+", type=Path)
    for name, text in (("restart", "end a component and start it"), ("kill", "end a component")):
        made = add(name, _restart if name == "restart" else _kill, text)
        made.add_argument("component")
        made.add_argument("--node", default="node1")
        made.add_argument("--signal", default="TERM" if name == "restart" else "KILL")
    made = add("start", _start, "start a component that has ended")
    made.add_argument("component")
    made.add_argument("--node", default="node1")
    made = add("exec", _exec, "run a command inside a node's namespaces")
    made.add_argument("--node", default="node1")
    made.add_argument("command", nargs="+", metavar="-- COMMAND")
    return parser


def _build(_: argparse.Namespace) -> None:
    print(build())


def _up(arguments: argparse.Namespace) -> None:
    runtimes = dict(each.split("=", 1) for each in arguments.runtime)
    gates = {
        name: value == "true" for name, value in (each.split("=", 1) for each in arguments.gate)
    }
    options = Options(arguments.nodes, runtimes, arguments.kubelet, gates)
    cluster = lifecycle.up(arguments.name, options)
    print(f"cluster {cluster.name} is up; KUBECONFIG={cluster.kubeconfig}")


def _down(arguments: argparse.Namespace) -> None:
    was = lifecycle.down(arguments.name)
    print(f"cluster {arguments.name} {'is down' if was else 'was not up'}")


def _status(arguments: argparse.Namespace) -> None:
    states = lifecycle.status(_cluster(arguments))
    for name, alive in states.items():
        print(f"{name:32}{'runs' if alive else 'has ended'}")
    sys.exit(not all(states.values()))


def _env(arguments: argparse.Namespace) -> None:
    print(f"export KUBECONFIG={_cluster(arguments).kubeconfig}")
    print(f'export PATH="{build()}:$PATH"')


def _load(arguments: argparse.Namespace) -> None:
    for file in arguments.file:
        for name in lifecycle.load_image(_cluster(arguments), file.read_bytes()):
            print(name)


def _restart(arguments: argparse.Namespace) -> None:
    node = _cluster(arguments).node(arguments.node)
    lifecycle.restart(node, arguments.component, arguments.signal)


def _kill(arguments: argparse.Namespace) -> None:
    node = _cluster(arguments).node(arguments.node)
    components.stop(node, arguments.component, arguments.signal)


def _start(arguments: argparse.Namespace) -> None:
    node = _cluster(arguments).node(arguments.node)
    components.start(node, arguments.component, build())


def _exec(arguments: argparse.Namespace) -> None:
    node = _cluster(arguments).node(arguments.node)
    command = namespaces.inside(node, arguments.command)
    os.execvp(command[0], command)  # noqa: S606


def _cluster(arguments: argparse.Namespace) -> Cluster:
    return lifecycle.running(arguments.name)


if __name__ == "__main__":
    main()
