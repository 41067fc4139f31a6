"""The software environments that a worker has been asked for: prepared, and with their interpreters."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from heald.core.environment import PLAIN, Environment
from heald.run import container
from heald.run.affinity import THREADS, names
from heald.run.interpreter import Interpreter, own_folders, program
from heald.run.prepare import Prepared, prepare
from heald.site import device

# Variables that differ from login to login, and mean nothing to software.
_OF_A_LOGIN = re.compile(rb"_|PWD|OLDPWD|SHLVL|SSH_.*|XDG_SESSION.*|TERM.*|COLUMNS|LINES")


class Software:
    """`run`: the folder of the run, where nodes keep what they prepare. `home`: where setup lines are run. `inherited`:
    the variables of the worker when it was started; with others, what was prepared before is not used.
    """

    def __init__(self, run: str, home: str, inherited: Mapping[bytes, bytes]) -> None:
        self._run = run
        self._home = home
        self._folder = Path(run, "environments")
        kept = sorted(one for one in inherited.items() if not _OF_A_LOGIN.fullmatch(one[0]))
        made_of = hashlib.blake2b(repr(kept).encode(), digest_size=4).hexdigest()
        self._node = self._folder / f"{os.uname().nodename}-{made_of}"
        self._prepared: dict[bytes, Prepared] = {}
        self._interpreters: dict[tuple[bytes, str], Interpreter] = {}

    @property
    def processes(self) -> set[int]:
        """Of interpreters: they outlast the attempts."""
        return {one.pid for one in self._interpreters.values() if one.status is None}

    def enter(self, environment: Environment) -> None:
        """Set the variables that its software sets. Raises StagingError when that cannot be prepared."""
        if environment.software != PLAIN:
            os.environ.update(self._ready(environment).variables)

    def words(self, environment: Environment) -> list[str]:
        """What stands before a command line that is to run in its container; nothing without one."""
        if not environment.container:
            return []
        of_tasks = [*names("", 0, 0), *THREADS, *device.VARIABLES]
        return self._inside(environment, [*self._ready(environment).variables, *environment.variables, *of_tasks])

    def interpreter(self, environment: Environment) -> Interpreter:
        """Its Python, started here, in the directory where the worker is, if it is not there yet."""
        software = environment.software
        key = msgspec.msgpack.encode(software), os.getcwd() if software.container else ""
        known = self._interpreters.get(key)
        if known is not None:
            if known.alive and known.path == sys.path:
                return known
            known.close()
        words = self._inside(environment, ["PYTHONPATH"]) if software.container else []
        made = Interpreter(self._ready(environment).python, words, program(self._folder), own_folders())
        self._interpreters[key] = made
        return made

    def _inside(self, environment: Environment, variables: list[str]) -> list[str]:
        folders = [self._run, self._home, *own_folders()]
        return container.words(self._ready(environment).container, folders, os.getcwd(), variables)

    def _ready(self, environment: Environment) -> Prepared:
        software = environment.software
        key = msgspec.msgpack.encode(software)
        known = self._prepared.get(key)
        if known is None:
            known = self._prepared[key] = prepare(software, self._node, self._home)
        return known
