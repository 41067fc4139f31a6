from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from heald.core.errors import HealdError, UsageError
from heald.run.inbox import Inbox


class Reader(Inbox):
    """Does what is left for it, in a thread of its own, until it is told to stop."""

    def __init__(self, limit: int = 10) -> None:
        super().__init__(limit)
        self.stopped = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self.stopped:
            self.selector.asleep = True
            if self._inbox:
                self.selector.asleep = False
            self.selector.wait(None)
            while self._inbox:
                self._inbox.popleft()()
            with self._changed:
                self._changed.notify_all()

    def stop(self) -> None:
        self.post(lambda: setattr(self, "stopped", True))
        self._thread.join(10)
        self.selector.close()


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.stop()


def test_a_question_is_answered_in_its_thread(reader: Reader) -> None:
    assert reader.ask(threading.current_thread) is reader._thread
    assert reader.ask(lambda: reader.ask(lambda: "asked inside")) == "asked inside"
    assert reader.ask(lambda: reader.inside)
    assert not reader.inside


def test_one_that_does_not_answer_is_an_error(reader: Reader) -> None:
    going_on = threading.Event()
    reader.post(lambda: going_on.wait(10) and None)
    with pytest.raises(HealdError, match="does not answer"):
        reader.ask(lambda: 1, timeout=0.01)
    going_on.set()


def test_waiting_inside_is_refused(reader: Reader) -> None:
    def look() -> str:
        try:
            reader.check_wait()
        except UsageError as refused:
            return str(refused)
        return ""

    assert not look()
    assert "never end" in reader.ask(look)


def test_drained_when_nothing_is_open(reader: Reader) -> None:
    assert reader.drain(10)
    reader.ask(lambda: setattr(reader.tally, "submitted", 1))
    assert not reader.drain(0.01)
    reader.ask(lambda: setattr(reader.tally, "done", 1))
    assert reader.drain(10)
