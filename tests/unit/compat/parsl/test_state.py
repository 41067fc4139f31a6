from __future__ import annotations

from heald.compat.parsl.state import FINAL_STATES, JobState, JobStatus, States


def test_states() -> None:
    assert str(States.exec_done) == "States.exec_done"
    assert States.dep_fail in FINAL_STATES


def test_jobs() -> None:
    assert JobStatus(JobState.FAILED).terminal
    assert not JobStatus(JobState.RUNNING).terminal
    assert JobStatus(JobState.HELD).status_name == "HELD"
