"""What the fake schedulers have in common for those who test with them: they are started, tuned and left clean."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.testbed.fake import program
from tests.testbed.fake.service import CONTROL
from tests.testbed.host import HEAD, Hosts
from tests.testbed.keeper import wait_for

_ROOT = Path(__file__).parents[3]


class FakeScheduler:
    """A fake scheduler on hosts; its commands are found on every host that `Hosts.run` reaches."""

    def __init__(self, hosts: Hosts, kind: str) -> None:
        self.hosts = hosts
        self.kind = kind

    def command(self, *words: object, status: int | None = 0) -> str:
        """Run one of its commands on the head; what it printed."""
        return self.hosts.run(HEAD, words, status=status, folder=Path("/tmp")).stdout

    def turn(self, **knobs: object) -> None:
        """Set knobs: see `tests.testbed.fake.service.Knobs`."""
        self._control("knobs", json.dumps(knobs))

    def _start(self, programs: Sequence[str], unreachable: str, status: int) -> None:
        """Start the service and put its commands where the hosts find them."""
        folder = self.hosts.folder / self.kind
        for part in ("spool", "aux"):
            (folder / part).mkdir(parents=True)
        text = Path(program.__file__).read_text()
        constants = f"UNREACHABLE, STATUS = {unreachable!r}, {status}"
        file = folder / "program"
        file.write_text(f"#!{sys.executable} -IS\n" + text.replace('UNREACHABLE, STATUS = "", 1', constants))
        file.chmod(0o755)
        for name in (*programs, CONTROL):
            (self.hosts.folder / "bin" / name).symlink_to(file)
        serve = [sys.executable, "-m", f"tests.testbed.fake.{self.kind}", str(self.hosts.folder), *self.hosts.nodes]
        self.hosts.spawn(serve, f"{self.kind}/log", folder=_ROOT)
        wait_for((folder / "socket").exists, f"the fake {self.kind}", folder / "log")

    def _control(self, *words: str) -> None:
        self.command(CONTROL, *words)


def as_script(text: str) -> str:
    """A script of a user: with a first line that names the shell, if it has none."""
    return text if text.startswith("#!") else f"#!/bin/sh\n{text}\n"
