"""`heald run --detach SCRIPT`: the same command again, in a session of its own, with somebody who looks after it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from pathlib import Path

from heald.cli.screen import say
from heald.core.errors import HealdError, JournalLocked
from heald.flow.driver import answers
from heald.flow.run import Run
from heald.run import supervisor
from heald.store.owner import refuse_living

_PATIENCE = 60.0  # seconds that the script's journal may take to be open
_FIRST = 1.0  # seconds that a script is watched after it: one that fails at once says so in this terminal
_LOOK = 0.02  # seconds between looks at processes that cannot wake us


def detached(folder: Path) -> int:
    """Start this very command again, without its --detach, and say how to reach it once its journal is open.

    When it has ended a second after that, what it printed is printed here, and its exit status is given: it may have
    been the wrong command. Raises JournalLocked when the run goes on already, HealdError when the journal is not open
    in time.
    """
    run, name = Run(folder), shlex.quote(str(folder))
    refuse_living(folder / "owner")
    if run.supervised:
        raise JournalLocked(f"{folder} runs already", hint=f"look at it: heald attach {name}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    run.detached.clear()
    pid = _start(run)
    deadline = time.monotonic() + _PATIENCE
    while not answers(run):
        if _over(pid):
            return _early_end(run)
        if time.monotonic() > deadline:
            raise HealdError(
                f"{folder} is still starting: its journal is not open after {_PATIENCE:g} s",
                hint=f"it goes on trying; heald attach {name} shows what it prints, kill {pid} ends it",
            )
        time.sleep(_LOOK)
    settled = time.monotonic() + _FIRST
    while time.monotonic() < settled:
        if _over(pid):
            return _early_end(run)
        time.sleep(_LOOK)
    _tell(run, pid)
    return 0


def _over(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG)[0] != 0


def _start(run: Run) -> int:
    """Start the supervisor of a script, and keep who it is before it begins."""
    told, tell = os.pipe()
    status, append = run.detached.status_file.absolute(), os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-IS", supervisor.__file__, str(status), *_command()],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, told, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(run.detached.stdout), append, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, str(run.detached.stderr), append, 0o600),
        ],
        setsid=True,
        setsigdef=(signal.SIGINT, signal.SIGHUP, signal.SIGPIPE),  # which `nohup` and `&` have ignored
        setsigmask=(),
    )
    os.close(told)
    with open(tell, "wb") as begin:
        run.detached.supervise(pid)
        begin.write(b"\n")
    return pid


def _command() -> list[str]:
    """The words that started this process, without the wish to be detached."""
    words = [sys.executable, *sys.orig_argv[1:]]
    words.remove("--detach")  # the first one: what follows the script's name is the script's
    return words


def _early_end(run: Run) -> int:
    for path, stream in ((run.detached.stdout, sys.stdout), (run.detached.stderr, sys.stderr)):
        stream.write(path.read_text(errors="replace"))
    status = run.detached.status
    return 1 if status is None else status if status >= 0 else 128 - status


def _tell(run: Run, supervisor: int) -> None:
    driver, name = run.owner, shlex.quote(str(run.path))
    where = f"process {driver.pid} on {driver.host}" if driver is not None else "over already"
    say(f"{run.path} runs detached: {where}; process {supervisor} starts it again when something kills it")
    for command, what in (
        ("attach", "what it prints, and how far it is; Ctrl-C leaves it alone"),
        ("run show", "counts, times, failures"),
        ("run stop", "end it: running tasks are let to end, --now cancels them"),
    ):
        say(f"  heald {command:<8} {name:<20} {what}")
