from __future__ import annotations

from typing import get_args

import pytest

from heald.core import codec, event
from heald.core.event import Cancelled, Event, Failure, Finished, TaskEvent
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


def test_cancellation_from_outside_says_how_to_undo_it() -> None:
    passing, lasting = Cancelled(7, 1.0, "enough").failure, Cancelled(7, 1.0, "enough", final=True).failure
    assert (passing.kind, passing.message, passing.hint, passing.final) == ("cancelled", "enough", "", False)
    assert (lasting.hint, lasting.final) == ("heald task retry 7 lets it run after all", True)


def test_events_cannot_be_changed() -> None:
    ended = Finished(1, 1.0, 1, Payload(b""))
    with pytest.raises(AttributeError):
        ended.attempt = 2  # type: ignore[misc]


def test_failure_holds_no_text_that_no_record_can_hold() -> None:
    failure = Failure("user", "no file a\udcff", traceback="\udcfe", stdout="\udcff/1.out")
    assert (failure.message, failure.traceback, failure.stdout) == ("no file a\\udcff", "\\udcfe", "\\udcff/1.out")
    ended = Finished(1, 0.0, 1, failure.with_logs("\udcff", "é"))
    assert codec.decode(codec.encode([ended])) == [ended]
