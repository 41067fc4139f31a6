"""The process that drives a run: whether there is one that can be asked, asking it, stopping it."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

from heald.core.errors import HealdError, JournalLocked, UsageError
from heald.run.change import Cancel, Changed, Request, Stop, TaskRequest, answer, encode
from heald.run.control import ask, listens
from heald.store.owner import Owner

if TYPE_CHECKING:
    from heald.flow.run import Run


_MOMENT = 5.0  # seconds that a process takes to begin or to end, at most; else it is said that it does
_LOOK_AGAIN = 0.05


def driver_of(run: Run, command: str) -> Owner | None:
    """The process that drives the run, if one does; it is wanted for `command`, with {} for the folder of the run.

    One that is just beginning or ending is waited for. Raises JournalLocked when it is one of another host, HealdError
    when it is just being started again.
    """
    deadline = time.monotonic() + _MOMENT
    while True:
        owner = _driver(run, command)
        if owner is None or listens(owner.nonce) or time.monotonic() >= deadline:
            return owner
        time.sleep(_LOOK_AGAIN)


def _driver(run: Run, command: str) -> Owner | None:
    owner = run.folder.owner
    if owner is None or owner.alive is False:
        if run.detached.supervised:
            raise HealdError(f"the script of {run.path} is just starting, or ending", hint="try again in a moment")
        return None
    if owner.alive is None:
        path = run.path.resolve()
        typed = command.format(shlex.quote(str(path)))
        raise JournalLocked(
            f"{run.path} is driven by process {owner.pid} of {owner.user} on {owner.host}, where alone it can be asked",
            hint=f"ssh {owner.host} {typed}; if that process is dead, remove {path / 'owner'} and try again",
        )
    return owner


def asked(run: Run, driver: Owner, request: TaskRequest) -> dict[int, Changed]:
    """What the run answers. Raises HealdError when it cannot be asked, or refuses."""
    return answer(answered(run, driver, request))


def answered(run: Run, driver: Owner, request: Request) -> bytes:
    """What the run answers, as it comes. Raises as `asked` does."""
    try:
        return ask(driver.nonce, encode(request))
    except OSError as error:
        raise HealdError(
            f"process {driver.pid}, which drives {run.path}, cannot be asked: {error.strerror}",
            hint="it may be starting or ending: try again in a moment",
        ) from error


def answers(run: Run) -> bool:
    """Whether the run can be asked: then its journal is open, and its engine runs."""
    driver = run.owner
    if driver is None or not driver.alive:
        return False
    try:
        ask(driver.nonce, encode(Cancel((), "")))  # which changes nothing
    except (OSError, HealdError):
        return False
    return True


def stop(run: Run, *, now: bool) -> list[int]:
    """End a run that goes on: see `Run.stop`."""
    driver = driver_of(run, f"heald run stop {{}}{' --now' if now else ''}")
    if driver is None:
        raise UsageError(f"{run.path} does not run", hint="heald run ls shows which do")
    return list(asked(run, driver, Stop(now)))
