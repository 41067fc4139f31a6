"""A depot behind a login node, which an ssh connection reaches: the nodes share no file system with this machine.

Everything goes through that one connection: agents find the head by a relay, a folder there has their files, and the
scheduler's programs are run there. When the connection is cut, it is made again, and whatever was to be done meanwhile
fails with SchedulerUnreachable, which says nothing about the jobs.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from heald.core.errors import HealdError, SiteError
from heald.core.version import __version__
from heald.run.cluster import depot, printed
from heald.run.cluster.printed import Place
from heald.run.log import ending
from heald.site import adapter, login
from heald.site.command import Answer
from heald.site.scheduler import Job, script
from heald.wire.relay import Relay

if TYPE_CHECKING:
    from heald.run.cluster.executor import ClusterExecutor

_SHELL = "/bin/bash"
_MARK = "heald-login "  # begins the line of the answer: modules and the like may print others
# Runs in the Python of the site, whatever that is: so in words that old ones understand.
_ARRIVE = """\
import json, os, sys
mark, python, version, folder, name = sys.argv[1:]
sys.path[:] = [one for one in sys.path if one]
home = os.path.expanduser("~")
state = os.environ.get("XDG_STATE_HOME", "")
said = {"python": sys.version.split()[0], "executable": sys.executable, "home": home}
try:
    from heald.core.version import __version__
    said["heald"] = __version__
    import heald.run.cluster.warden
except (ImportError, SyntaxError) as raised:
    said["problem"] = str(raised)
if said["python"].startswith(python + ".") and said.get("heald") == version and "problem" not in said:
    os.umask(0o077)
    folder = os.path.expanduser(os.path.expandvars(folder))
    folder = folder or os.path.join(state if os.path.isabs(state) else os.path.join(home, ".local", "state"), "heald")
    said["folder"] = os.path.join(os.path.abspath(folder), name)
    os.makedirs(os.path.join(said["folder"], "agents"), exist_ok=True)
print(mark + json.dumps(said))
"""
# What came in part, since the connection was cut, is nothing.
_WRITE = 'umask 077; cat >"$1.new" && [ "$(wc -c <"$1.new")" -eq "$2" ] && mv -f "$1.new" "$1"'
_LEAVE = """\
find "$1" -mindepth 1 -maxdepth 1 ! -name "$2" -exec rm -rf {} +
status=$?
find "$1" -empty -delete 2>/dev/null
exit $status"""
_END = 4096  # bytes of a file that are worth a look


class Arrived(msgspec.Struct, frozen=True):
    """What was found there, and `folder`, which was made if all is well."""

    python: str
    executable: str
    home: str
    heald: str = ""
    problem: str = ""
    folder: str = ""


class LoginNode:
    """Makes a folder `name` behind the login node of an executor's site. `local`: that of the executor in the run.

    `kept`: what tasks printed stays there when the run is over. Raises ConfigurationError for a site that has none.
    """

    def __init__(self, executor: ClusterExecutor, local: Path, name: str, *, kept: bool) -> None:
        site = executor.site
        adapter.check(site)
        self.site = msgspec.structs.replace(site, python=site.python or "python3")
        self.run = self.folder = self.directory = ""
        self.path: tuple[str, ...] = ()  # the Python there knows where its modules are
        self.interface, self.port = "lo", 0
        self._host = site.login
        self._local = local
        self._name = name
        self._interface = executor.interface or site.interface
        self._kept = kept
        self._relay: Relay | None = None

    def open(self, sockets: Sequence[Sequence[str]]) -> list[list[str]]:
        """See `Depot`."""
        python = self.site.python if "/" in self.site.python else "python3"
        heads = [one[0] for one in sockets]
        ports = depot.ports(self._local)  # where agents of a head that was killed look for the next one
        self._relay = Relay(self._host, heads, interface=self._interface, python=python, ports=ports)
        found = self._relay.start()
        arrived = self._arrive()
        if problem := self._unfit(arrived):
            raise problem
        self.run, self.directory = arrived.folder, arrived.home
        self.folder = f"{arrived.folder}/agents"
        printed.remember(self._local, Place(self._host, f"{self.run}/logs", self._relay.control))
        return found

    def ask(self, argv: Sequence[str], text: str = "", variables: Mapping[str, str] = {}) -> Answer:
        """Run a program there. Raises SchedulerUnreachable and SiteError."""
        return login.over(self._host, self._relay.control if self._relay else "")(argv, text, variables)

    def write(self, name: str, content: bytes) -> None:
        """See `Depot`."""
        file = f"{self.folder}/{name}"
        answer = self.ask([_SHELL, "-c", _WRITE, "sh", file, str(len(content))], content.decode())
        if answer.status:
            raise SiteError(f"{self._host}: {file} cannot be written: {answer.words}", hint="is there room? df -h ~")

    def tail(self, name: str) -> str:
        """See `Depot`."""
        try:
            answer = self.ask(["tail", "-c", str(_END), f"{self.folder}/{name}"])
        except HealdError as raised:
            return f"its output is {self._host}:{self.folder}/{name}: {raised.message}"
        return ending(answer.out)

    def close(self) -> None:
        """See `Depot`."""
        if self._relay is None:
            return
        if self.run and (why := self._leave()):
            remove = f"ssh {self._host} rm -r {shlex.quote(self.folder)}"
            logging.getLogger("heald").warning("keys of the run are left on %s: %s; %s", self._host, why, remove)
        self._relay.close()
        self._relay = None

    def _leave(self) -> str:
        """Remove what is there; why it could not be."""
        try:
            answer = self.ask([_SHELL, "-c", _LEAVE, "sh", self.run, "logs" if self._kept else ""])
        except HealdError as raised:
            return raised.message
        return answer.words if answer.status else ""

    def _arrive(self) -> Arrived:
        """Look around there, in the environment that jobs will have, and make the folder."""
        site = self.site
        here = ".".join(map(str, sys.version_info[:2]))
        command = (site.python, "-c", _ARRIVE, _MARK, here, __version__, site.folder, self._name)
        asked = Job(name="", command=command, modules=site.modules, setup=site.setup, variables=site.variables)
        answer = self.ask([_SHELL, *(["-l"] if site.modules else []), "-c", script(asked)])
        for line in answer.out.splitlines():
            if line.startswith(_MARK):
                return msgspec.json.decode(line[len(_MARK) :], type=Arrived)
        hint = f"`python` of the site is {site.python!r}: name one that {self._host} has, or load it in `modules`"
        raise SiteError(f"{self._host}: {answer.words}", hint=hint)

    def _unfit(self, there: Arrived) -> SiteError | None:
        """Why what is there cannot serve, and what to type."""
        here, host = sys.version.split()[0], self._host
        if there.folder:
            return None
        if there.python.split(".")[:2] != here.split(".")[:2]:
            python = f"python{here.rpartition('.')[0]}"
            make = f"{python} -m venv ~/heald && ~/heald/bin/pip install heald=={__version__}"
            return SiteError(
                f"Python {there.python} at {there.executable} on {host}, and {here} here: functions cannot travel "
                "between them",
                hint=f"ssh {host} '{make}', and in the site: python = \"{there.home}/heald/bin/python\"",
            )
        found = f"heald {there.heald}" if there.heald else "no heald"
        why = f" ({there.problem})" if there.problem else ""
        install = f"ssh {host} {shlex.quote(there.executable)} -m pip install heald=={__version__}"
        return SiteError(
            f"{there.executable} on {host} has {found}{why}, and here is heald {__version__}: install the same there",
            hint=install,
        )
