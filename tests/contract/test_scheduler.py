"""The contract of schedulers, over those that need no cluster; tests/live has the others."""

from __future__ import annotations

from typing import Any

import pytest

from heald.site.local import Local
from heald.site.scheduler import Job, Scheduler
from heald.site.throttle import Throttle
from heald.testing.scheduler import SchedulerContract


class TestLocal(SchedulerContract):
    test_what_it_refuses_is_told_in_its_words = None  # type: ignore[assignment]  # it has no queues to refuse
    test_facts_of_its_queues = None  # type: ignore[assignment]

    @pytest.fixture
    def scheduler(self) -> Scheduler:
        return Local()


class TestThrottle(TestLocal):
    @pytest.fixture
    def scheduler(self) -> Scheduler:
        return Throttle(Local(), interval=0.1)


def test_a_job_says_what_its_site_needs() -> None:
    class Here(SchedulerContract):
        def job(self, **fields: Any) -> Job:
            return super().job(queue="debug", **fields)

    assert Here().job(command=("true",)).queue == "debug"
