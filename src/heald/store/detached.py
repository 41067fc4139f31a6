"""What a run's folder tells of the script that drives it without a terminal: who looks after it, what it prints.

    run.heald/
        supervisor      the process that starts the script again when something kills it, see `owner`
        script.out      what it prints, of all its processes one after another; errors: script.err
        status          how the last of them ended, as `subprocess` says it: written by the supervisor

Whether the run itself is driven is the owner file's to say. A folder whose script runs in a terminal again keeps these
files; their status is then older than the owner.
"""

from __future__ import annotations

from pathlib import Path

from heald.store.owner import Owner, give, owner_in, process


class Detached:
    """The files of a detached script in the folder of its run. Naming them touches nothing."""

    def __init__(self, folder: Path) -> None:
        self.stdout = folder / "script.out"
        self.stderr = folder / "script.err"
        self.status_file = folder / "status"
        self._supervisor = folder / "supervisor"

    @property
    def supervisor(self) -> Owner | None:
        """The process that looks after the script, living or not; None when none ever did."""
        return owner_in(self._supervisor)

    @property
    def supervised(self) -> bool | None:
        """Whether that process lives; None when it is on another host, and this one cannot know."""
        supervisor = self.supervisor
        return supervisor is not None and supervisor.alive

    @property
    def status(self) -> int | None:
        """How the script ended: exit status, negative for a signal; None while it goes on, or when nobody saw it."""
        try:
            return int(self.status_file.read_text())
        except (OSError, ValueError):
            return None

    def clear(self) -> None:
        """Forget what there was: the script is about to be started, and prints into empty files."""
        for path in (self._supervisor, self.status_file, self.stdout, self.stderr):
            path.unlink(missing_ok=True)

    def supervise(self, pid: int) -> None:
        """Keep that the process `pid` of this host looks after the script from now on."""
        give(self._supervisor, process(pid))
