from __future__ import annotations

from typing import get_args

import pytest

from heald.core import event
from heald.core.event import Event, Failure, Finished, TaskEvent
from heald.core.task import Payload


def test_an_event_of_a_task_is_told_by_its_name() -> None:
    tags = [kind.__struct_config__.tag for kind in get_args(Event)]
    assert tags == [kind.__name__.lower() for kind in get_args(Event)]
    assert len(set(tags)) == len(tags)


def test_every_event_is_one_of_the_union() -> None:
    kinds = {kind for kind in vars(event).values() if isinstance(kind, type) and kind.__module__ == event.__name__}
    assert {kind for kind in kinds if hasattr(kind, "time") and not kind.__name__.startswith("_")} <= set(
        get_args(Event)
    )
    assert set(get_args(TaskEvent)) < set(get_args(Event))


@pytest.mark.parametrize("kind", get_args(TaskEvent), ids=lambda kind: kind.__name__)
def test_events_of_tasks_say_which_and_when_first(kind: type) -> None:
    assert kind.__struct_fields__[:2] == ("task", "time")  # type: ignore[attr-defined]
    assert kind.__doc__


def test_failure_is_given_the_files_of_what_was_printed() -> None:
    failure = Failure("user", "ValueError: no", hint="look").with_logs("/logs/1.out", "/logs/1.err")
    assert (failure.stdout, failure.stderr, failure.hint) == ("/logs/1.out", "/logs/1.err", "look")


def test_events_cannot_be_changed() -> None:
    ended = Finished(1, 1.0, 1, Payload(b""))
    with pytest.raises(AttributeError):
        ended.attempt = 2  # type: ignore[misc]
