from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from heald.core.errors import SubmitFailed
from heald.site.profile import NodeShape
from heald.site.scheduler import MISSING, Job, JobState, JobStatus, Nodes, Queue
from heald.testing.scheduler import Recorder, SchedulerContract

DONE = JobStatus(JobState.done, exit=0)


class Liar:
    """A scheduler that keeps no promise, but for being quick."""

    def submit(self, job: Job) -> str:
        if job.queue:
            raise SubmitFailed("no")
        return "1"

    def status(self, ids: Iterable[str]) -> Mapping[str, JobStatus]:
        return dict.fromkeys(ids, DONE)

    def cancel(self, ids: Iterable[str]) -> None:
        pass

    def nodes(self) -> Sequence[Nodes]:
        return [Nodes(NodeShape(), 1)]

    def queues(self) -> Sequence[Queue]:
        return []


class Quick(SchedulerContract):
    patience = 0.0


@pytest.mark.parametrize("name", [name for name in vars(SchedulerContract) if name.startswith("test_")])
def test_every_promise_is_tested(name: str, tmp_path: Path) -> None:
    liar = Liar()
    given: dict[str, Any] = {"scheduler": liar, "jobs": Recorder(liar), "folder": tmp_path}
    test = getattr(Quick(), name)
    wanted = test.__code__.co_varnames[1 : test.__code__.co_argcount]
    with pytest.raises((AssertionError, FileNotFoundError)):
        test(**{argument: given[argument] for argument in wanted})


def test_what_was_submitted_is_remembered() -> None:
    jobs = Recorder(Liar())
    jobs.submit(Job(name="a", command=("x",)))
    assert jobs.ids == ["1"]
    assert MISSING.state not in (DONE.state,)
