"""Runs as anybody may look at them: from a notebook, from the command line, while they go on and afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from heald.core import codec
from heald.core.errors import JournalError, JournalLocked, UsageError
from heald.core.event import Event
from heald.core.history import History
from heald.store.detached import Detached
from heald.store.folder import Folder, runs_directory
from heald.store.journal import Follower, read
from heald.store.owner import Owner

if TYPE_CHECKING:
    from heald.core.allocation import AllocationStatus
    from heald.flow.plan import Change

RUNNING, ENDED, KILLED, UNKNOWN = "running", "ended", "killed", "unknown"


class Run:
    """A run by its folder, whoever writes it. Looking at it changes nothing, and needs nobody's leave.

    >>> import tempfile, heald
    >>> folder = Path(tempfile.mkdtemp(), "run.heald")
    >>> with heald.Session([heald.ThreadExecutor()], journal=folder) as session:
    ...     session.submit(max, 3, 4).result()
    4
    >>> run = Run(folder)
    >>> run.state, [record.state.name for record in run.history().records.values()]
    ('ended', ['done'])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder = Folder(path)
        self.path = self.folder.path
        self.detached = Detached(self.path)
        self._follower = Follower(self.folder.journal)
        self._history = History()

    @property
    def logs(self) -> Path:
        """The folder of what its tasks printed."""
        return self.folder.logs

    @property
    def recorded(self) -> bool:
        """Whether it keeps a journal; of others there are only the logs."""
        return self.folder.journal.exists()

    @property
    def owner(self) -> Owner | None:
        """The process that writes it, or that died doing so; None when there is none, or nobody can tell."""
        try:
            return self.folder.owner
        except JournalLocked:
            return None

    @property
    def state(self) -> str:
        """Whether it is "running", "ended" or "killed"; "unknown" when its process cannot be seen from this machine.

        A detached run whose process was killed is running: it is about to be started again.
        """
        owner = self.owner
        if owner is None:
            return UNKNOWN if (self.path / "owner").exists() else ENDED
        if owner.alive is None:
            return UNKNOWN
        return RUNNING if owner.alive or self.supervised else KILLED

    @property
    def supervised(self) -> bool:
        """Whether a process of this machine looks after its script: `heald run --detach` has started it."""
        try:
            return bool(self.detached.supervised)
        except JournalLocked:
            return False

    @property
    def output(self) -> tuple[Path, Path] | None:
        """The files of what its script prints, and of its errors; None when it was not started detached."""
        found = self.detached
        if not found.stdout.exists() or (found.status is not None and self._driven):
            return None  # it runs in a terminal now, and these are from before
        return found.stdout, found.stderr

    @property
    def _driven(self) -> bool:
        owner = self.owner
        return owner is not None and owner.alive is not False

    @property
    def touched(self) -> float:
        """When anything last happened in it, in seconds since the epoch."""
        return max(_changed(path) for path in (self.path, self.folder.journal, self.folder.path / "owner"))

    def history(self) -> History:
        """What became of its tasks up to now. Later calls read only what is new.

        Tasks that were under way when the process of the run ended are waiting: they are run again when the script
        is. Large arguments and values are not kept in memory, only their sizes are: `events` has them. Raises
        JournalError when the run keeps no journal, JournalCorrupt when that is damaged.
        """
        self._check()
        over = self.state in (ENDED, KILLED)  # asked first: what is read then is all that there will be
        while True:
            frames = self._follower.poll()
            if self._follower.restarted:
                self._history = History()
            if not frames:
                break
            for frame in frames:
                self._history.extend(codec.outline(frame))
        if over:
            self._history.interrupt()
        return self._history

    def events(self) -> Iterator[Event]:
        """All that happened, from the beginning. Raises as `history` does."""
        self._check()
        for _, frame in read(self.folder.journal):
            yield from codec.decode(frame)

    def cancel(
        self, tasks: int | Iterable[int], reason: str = "cancelled from outside of the script", *, pretend: bool = False
    ) -> list[Change]:
        """Have tasks (by id) not run, or stop them if they do; what waits for them is cancelled too.

        They stay cancelled for later processes of the run, until `retry`. A living run is asked to do it; of one that
        has ended, all that is not done can be cancelled. `pretend`: only says what would be done. Raises UsageError
        for an id that there is not, JournalLocked when the run is driven from another host, HealdError when its process
        does not answer within 30 s.
        """
        from heald.flow.change import cancel

        return cancel(self, tasks, reason, pretend=pretend)

    def retry(self, tasks: int | Iterable[int], *, pretend: bool = False) -> list[Change]:
        """Have tasks (by id) run again, however they ended, with what they failed of, and with all that needs them.

        A living run does that at once where it can. Its script keeps the ends that it was told: it gets the new values
        when it is started the next time. Else they run when the script is started again. Raises as `cancel` does.
        """
        from heald.flow.change import retry

        return retry(self, tasks, pretend=pretend)

    def remove(self, tasks: int | Iterable[int], *, pretend: bool = False) -> list[Change]:
        """Remove the records, values, logs and own directories of tasks (by id), and of all that needs them.

        Of a living run, only those that are over. When the script is started again, they are tasks that never ran.
        Files that they wrote elsewhere stay. Raises as `cancel` does.
        """
        from heald.flow.change import remove

        return remove(self, tasks, pretend=pretend)

    def stop(self, *, now: bool = False) -> list[int]:
        """End a run that goes on, and say which tasks were running.

        No more tasks are begun; when those that run are over, the script is interrupted, as by Ctrl-C in its terminal.
        `now`: they are cancelled, and the script is interrupted at once. Started again, it goes on where it was. Raises
        UsageError when the run does not go on, JournalLocked when that is on another host, HealdError when its process
        does not answer within 30 s.
        """
        from heald.flow.driver import stop

        return stop(self, now=now)

    def allocations(self) -> list[AllocationStatus]:
        """The nodes that its executors have and had from schedulers, how busy they are and how long they stay.

        Of a run that does not go on: as its process saw them last. Raises JournalLocked when the run is driven from
        another host, HealdError when its process does not answer within 30 s.
        """
        from heald.flow.allocation import allocations

        return allocations(self)

    def acquire(self, blocks: int = 1, executor: str = "") -> list[AllocationStatus]:
        """Ask the scheduler for so many more blocks now, and from now on allow as many more; which these are.

        `executor`: the label of the one, when several have allocations. Raises UsageError when the run does not go on,
        HealdError when there is no such executor, or no nodes can be had, else as `allocations` does.
        """
        from heald.flow.allocation import acquire

        return acquire(self, blocks, executor)

    def release(self, allocation: str, executor: str = "") -> AllocationStatus:
        """Give an allocation back, by id: no more work is begun there, and its nodes are free when what runs has ended.

        From now on the run may have one block fewer. Raises HealdError for an id that there is not, else as `acquire`.
        """
        from heald.flow.allocation import release

        return release(self, allocation, executor)

    def _check(self) -> None:
        if not self.recorded:
            raise JournalError(
                f"{self.path} keeps no journal: of its tasks only the logs are known",
                hint='give the session one: heald.Session(journal="run.heald")',
            )

    def __repr__(self) -> str:
        return f"heald.Run({os.fspath(self.path)!r})"


def runs() -> list[Run]:
    """The runs that can be found: `*.heald` in the current folder, then those that were given no folder, each sort
    with the newest first.
    """
    return _newest(Path.cwd(), "*.heald") + _newest(runs_directory(), "*")


def find_run(path: str | os.PathLike[str] | None = None) -> Run:
    """The run of that folder, or of that name among those of `runs`; the first of `runs` when nothing is named.

    Raises UsageError when there is no such run.
    """
    if path is None:
        found = runs()
        if not found:
            raise UsageError(
                "there is no run here",
                hint='a session keeps one as heald.Session(journal="run.heald"); name another folder with --run',
            )
        return found[0]
    for candidate in (Path(path), runs_directory() / Path(path).name):
        if _is_run(candidate):
            return Run(candidate)
    raise UsageError(f"{os.fspath(path)} is no run", hint="heald run ls lists those that there are")


def _newest(folder: Path, pattern: str) -> list[Run]:
    found = [Run(path) for path in folder.glob(pattern) if _is_run(path)]
    return sorted(found, key=lambda run: run.touched, reverse=True)


def _is_run(path: Path) -> bool:
    return (path / "journal.log").exists() or (path / "logs").is_dir()


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
