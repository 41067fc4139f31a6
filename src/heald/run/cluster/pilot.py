"""What a batch job runs on its first node: starts an agent on each of its nodes, and waits for them to end.

`python -m heald.run.cluster.pilot SETTINGS`.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from heald.core.errors import ConfigurationError, HealdError
from heald.run.cluster.settings import AgentSettings, read, write
from heald.site import node
from heald.site.launcher import SHELL, launcher
from heald.wire import key
from heald.wire.address import Unreachable
from heald.wire.switch import Switch

_BOOT = """\
import sys
if sys.version_info[:2] != {version}:
    sys.exit("heald: Python %d.%d at " % sys.version_info[:2] + sys.executable + " on this node, and {here} where the \
run was started: functions cannot travel between them; set `python` of the site to an interpreter of that version")
sys.path[:] = sys.argv[2:] or filter(None, sys.path)
from heald.run.cluster.{module} import main
sys.exit(main(sys.argv[1:2]))
"""

# What differs from node to node, or from shell to shell.
_OWN = re.compile(r"(SLURM|SSH_|PBS_.*NUM|PMI|PALS_).*|HOST(NAME)?|TMPDIR|(OLD)?PWD|SHLVL|_")
_AROUND = '. "$0"; exec "$@"'


def program(module: str, python: str, file: Path, path: Iterable[str]) -> list[str]:
    """The command that runs `module` of this folder on a node, with the settings in `file`; it finds modules in `path`,
    or where the interpreter there has its own.

    It says so where the interpreter there is of another version, before anything is loaded.
    """
    here = sys.version_info[:2]
    boot = _BOOT.format(module=module, version=tuple(here), here=".".join(map(str, here)))
    return [python or sys.executable, "-c", boot, str(file), *path]


def hosts() -> tuple[str, ...]:
    """The nodes of the job that this process is in."""
    return node.grant().hosts or (socket.gethostname(),)


def switched(file: Path, given: AgentSettings, count: int) -> tuple[Path, Switch | None]:
    """The settings for agents on so many nodes: when these are many they have a switch, in this process."""
    if count <= given.fan_out:
        return file, None
    name = f"{given.allocation}.switch.{os.getpid()}".encode()
    try:
        switch = Switch(given.endpoints, given.head, given.pair, name, interface=given.site.interface)
    except (Unreachable, ConfigurationError) as raised:
        print(f"heald: each agent has a connection of its own: {raised}", file=sys.stderr, flush=True)
        return file, None
    made = file.with_suffix(".switch.json")
    write(made, msgspec.structs.replace(given, switch=tuple(switch.endpoints)))
    return made, switch


def commands(file: Path, given: AgentSettings, hosts: tuple[str, ...]) -> list[list[str]]:
    """The commands that start an agent on each of these nodes."""
    found = launcher(given.site)
    argv = program("warden", given.site.python, file, given.path)
    if not found.exports:
        argv = [SHELL, "-c", _AROUND, str(_environment(file)), *argv]
    return found.agents(hosts, argv)


def _environment(file: Path) -> Path:
    """A file that makes the variables of this process in a shell: modules and the like were loaded in its own."""
    names = (name for name in os.environ if name.isidentifier() and not _OWN.fullmatch(name))
    lines = (f"export {name}={shlex.quote(os.environ[name])}\n" for name in names)
    made = file.with_suffix(".environment")
    key.write(made, "".join(lines).encode(errors="surrogateescape"))
    return made


def main(argv: list[str]) -> int:
    """Start the agents, pass signals on to them, and wait; the exit status is the worst of theirs."""
    file = Path(argv[0])
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: object) -> None:
        for child in children:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    if (ends := node.grant().ends) is not None:
        os.environ[node.LEFT] = str(ends.timestamp() - time.time())
    try:
        given, nodes = read(file), hosts()
        told, switch = switched(file, given, len(nodes))
        children.extend(subprocess.Popen(line, stdin=subprocess.DEVNULL) for line in commands(told, given, nodes))
    except (HealdError, OSError) as raised:
        print(f"heald: no agent can be started here: {raised}", file=sys.stderr)
        return 1
    status = max(abs(child.wait()) for child in children)
    if switch is not None:
        switch.close()
        told.unlink(missing_ok=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
