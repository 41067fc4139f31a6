"""`python -m tests.testbed`: a testbed to play with, or for a benchmark; it stays up until it is taken down."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.testbed import keeper
from tests.testbed.flux import FakeFlux
from tests.testbed.gridengine import GridEngine
from tests.testbed.host import HEAD, Hosts
from tests.testbed.install import missing
from tests.testbed.keeper import TestbedFailed
from tests.testbed.pbs import FakePbs
from tests.testbed.slurm import Slurm

_FAULTS = ("cut", "oneway", "loss", "slow", "delay")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one command; the status to exit with."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.do(options) or 0)
    except TestbedFailed as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default="testbed", help="which testbed; several can be up at a time")

    def add(name: str, about: str, do: object) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about, parents=[named])
        command.set_defaults(do=do)
        return command

    for kind, (about, _) in _KINDS.items():
        command = add(kind, f"`{kind} up`: start {about}", _up)
        command.set_defaults(kind=kind)
        command.add_argument("action", choices=["up"])
        command.add_argument("--nodes", type=int, default=4, help="besides the head node n0 (4)")
        if kind == "slurm":
            command.add_argument("--accounting", action="store_true", help="with slurmdbd, so that sacct answers")
    add("down", "end a testbed and all that runs on it", _down)
    add("status", "list the hosts", _status)
    command = add("exec", "run a command on a host", _exec)
    command.add_argument("host")
    command.add_argument("command", nargs=argparse.REMAINDER)
    for name, about in {"crash": "cut a host's power", "boot": "switch it on", "heal": "undo its faults"}.items():
        add(name, about, _power).add_argument("host")
        commands.choices[name].set_defaults(action=name)
    command = add("fault", "cut | oneway | loss PERCENT | slow RATE | delay MILLISECONDS [JITTER]", _fault)
    command.add_argument("host")
    command.add_argument("fault", choices=_FAULTS)
    command.add_argument("values", nargs="*")
    return parser


_KINDS: dict[str, tuple[str, Callable[..., object]]] = {
    "hosts": ("hosts with ssh", lambda hosts: None),
    "slurm": ("hosts with Slurm", Slurm.up),
    "gridengine": ("hosts with Grid Engine", GridEngine.up),
    "pbs": ("hosts with a fake PBS", FakePbs.up),
    "flux": ("hosts with a fake Flux", FakeFlux.up),
}


def _up(options: argparse.Namespace) -> None:
    more = {"accounting": True} if getattr(options, "accounting", False) else {}
    if reason := missing(options.kind, *more):
        raise TestbedFailed(reason)
    hosts = Hosts.up(options.name, options.nodes, tied=False)
    try:
        _KINDS[options.kind][1](hosts, **more)
    except BaseException:
        hosts.down()
        raise
    print(f"{' '.join(hosts.names)} are up: python -m tests.testbed exec --name {options.name} {HEAD} COMMAND")


def _down(options: argparse.Namespace) -> None:
    Hosts.find(options.name).down()


def _status(options: argparse.Namespace) -> None:
    for name in keeper.names():
        hosts = Hosts.find(name)
        print(name, *(host if hosts.is_up(host) else f"({host} is off)" for host in hosts.names))


def _exec(options: argparse.Namespace) -> int:
    command = options.command or ["bash"]
    hosts = Hosts.find(options.name)
    with hosts.start(options.host, command, folder=Path.cwd(), stdin=0, stdout=1, stderr=2) as process:
        status = process.wait()
    return 128 - status if status < 0 else status  # as a shell says that it was a signal


def _power(options: argparse.Namespace) -> None:
    hosts = Hosts.find(options.name)
    {"crash": hosts.crash, "boot": hosts.boot, "heal": hosts.network.heal}[options.action](options.host)


def _fault(options: argparse.Namespace) -> None:
    network = Hosts.find(options.name).network
    host, values = options.host, options.values
    match options.fault, len(values):
        case "cut", 0:
            network.cut(host)
        case "oneway", 0:
            network.oneway(host)
        case "loss", 1:
            network.loss(host, int(values[0]))
        case "slow", 1:
            network.slow(host, values[0])
        case "delay", 1 | 2:
            network.delay(host, *map(float, values))
        case _:
            raise TestbedFailed(f"{options.fault}: see python -m tests.testbed fault --help")


if __name__ == "__main__":
    sys.exit(main())
