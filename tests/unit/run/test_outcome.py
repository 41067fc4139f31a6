from __future__ import annotations

import copyreg
import pickle
import threading
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest

import heald
from heald.core import retry
from heald.core.event import Failure
from heald.core.task import Payload
from heald.data.payload import unpack
from heald.run.outcome import Live, error, failure


class Awkward(Exception):
    def __init__(self, where: str, line: int) -> None:
        super().__init__(f"{where}:{line}")
        self.line = line


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it cannot tell")


def raised_by(call: Any, *args: Any) -> BaseException:
    try:
        call(*args)
    except BaseException as raised:
        return raised
    raise AssertionError


def throw(exception: BaseException, cause: BaseException | None = None) -> None:
    raise exception from cause


def record(exception: BaseException, cause: BaseException | None = None) -> Failure:
    return failure(raised_by(throw, exception, cause))


def made(outcome: Failure) -> Any:
    return error(outcome, task=7, name="square", decode=unpack)


class TestFailure:
    def test_says_what_was_raised(self) -> None:
        found = record(ValueError("broken\nin two lines"))
        assert found.kind == retry.USER
        assert found.message == "ValueError: broken"
        assert "in throw" in found.traceback
        assert "in two lines" in found.traceback

    def test_an_exception_without_a_message(self) -> None:
        assert record(KeyError()).message == "KeyError"

    def test_an_exception_that_cannot_tell_its_message(self) -> None:
        assert record(Speechless()).message.startswith("Speechless: ")

    @pytest.mark.parametrize(
        ("exception", "kind"),
        [(MemoryError(), retry.OUT_OF_MEMORY), (heald.StagingError("no file"), retry.STAGING), (OSError(), retry.USER)],
    )
    def test_knows_classes_of_failure(self, exception: BaseException, kind: str) -> None:
        assert record(exception).kind == kind

    @pytest.mark.parametrize(("code", "status"), [(3, 3), (None, 1), ("bye", 1)])
    def test_the_end_of_a_process_is_not_raised_elsewhere(self, code: object, status: int) -> None:
        found = record(SystemExit(code))
        assert (found.message, found.exit, found.exception) == (f"it called sys.exit({code!r})", status, None)

    def test_takes_over_a_hint(self) -> None:
        assert record(heald.UsageError("wrong", hint="do it right")).hint == "do it right"

        class Odd(Exception):
            hint = 3

        assert record(Odd()).hint == ""

    def test_very_long_messages_are_cut(self) -> None:
        assert len(record(ValueError("x" * 10_000)).message) <= 500

    def test_one_that_cannot_travel_leaves_its_text(self) -> None:
        found = record(ValueError(threading.Lock()))
        assert found.exception is None
        assert "ValueError: <unlocked" in found.traceback

    def test_endless_recursion_can_travel(self) -> None:
        def deeper() -> None:
            deeper()

        found = failure(raised_by(deeper))
        assert found.exception is not None
        assert isinstance(unpack(found.exception), RecursionError)


class TestError:
    def test_is_the_very_exception(self) -> None:
        found = made(record(Awkward("deck.in", 3), KeyError("k")))
        assert type(found) is Awkward
        assert found.args == ("deck.in:3",)
        assert found.line == 3
        assert repr(found.__cause__) == "KeyError('k')"
        assert "in throw" in "".join(traceback.format_exception(found))
        assert found.__notes__ == ["in task square#7"]

    def test_names_the_logs_and_shows_their_ends(self, tmp_path: Path) -> None:
        out, err = tmp_path / "7.1.out", tmp_path / "7.1.err"
        out.write_text("".join(f"step {number}\n" for number in range(50)))
        err.write_text("bad deck\n")
        found = made(record(ValueError("broken")).with_logs(str(out), str(err)))
        (note,) = found.__notes__
        assert str(out) in note
        assert "step 49" in note
        assert "step 1\n" not in note
        assert "    bad deck" in note

    @pytest.mark.parametrize(
        ("outcome", "kind"),
        [
            (Failure(retry.WORKER_LOST, "gone"), heald.WorkerLost),
            (Failure(retry.OUT_OF_MEMORY, "too much"), heald.OutOfMemory),
            (Failure(retry.WALLTIME, "too long"), heald.WalltimeExceeded),
            (Failure(retry.RESULT, "a lock"), heald.ResultError),
            (Failure(retry.CANCELLED, "by you"), heald.TaskCancelled),
            (Failure(retry.DEPENDENCY, "a failed", chain=("b#2", "a#1")), heald.DependencyError),
            (Failure(retry.REFUSED, "too large"), heald.UsageError),
            (Failure(retry.USER, "3", code="command-failed", exit=3), heald.CommandFailed),
            (Failure(retry.USER, "no x", code="output-missing"), heald.OutputMissing),
            (Failure(retry.USER, "a circle", code="cycle"), heald.CycleError),
            (Failure(retry.USER, "it called sys.exit(1)"), heald.TaskError),
            (Failure("of tomorrow", "?"), heald.TaskError),
        ],
    )
    def test_has_a_class_for_every_failure(self, outcome: Failure, kind: type[heald.HealdError]) -> None:
        found = made(outcome)
        assert type(found) is kind
        assert outcome.message in str(found)
        assert "square#7" in str(found)
        again = pickle.loads(pickle.dumps(found))
        assert type(again) is kind
        assert str(again) == str(found)

    def test_carries_facts(self) -> None:
        found = made(Failure(retry.USER, "status 3", code="command-failed", exit=3, hint="read it", stdout="/o"))
        assert (found.returncode, found.task, found.name, found.stdout) == (3, 7, "square", "/o")
        assert str(found).endswith("hint: read it")

    def test_shows_what_was_printed_on_a_host_that_shares_no_files(self) -> None:
        failure = Failure(retry.USER, "status 3", stderr="me@there:/1.1.err", printed=("", "bad deck\nat line 3"))
        (note,) = made(failure).__notes__
        assert note == "stderr: me@there:/1.1.err\n      bad deck\n      at line 3"

    def test_of_a_dependency_names_the_chain_and_the_cause(self) -> None:
        inner = record(ValueError("broken"))
        outcome = Failure(retry.DEPENDENCY, "a#1 failed", inner.exception, chain=("c#3", "b#2", "a#1"))
        found = made(outcome)
        assert found.chain == ("c#3", "b#2", "a#1")
        assert repr(found.__cause__) == "ValueError('broken')"
        assert "needed by: a#1 <- b#2 <- c#3" in found.__notes__

    def test_of_one_that_could_not_travel_has_its_text(self) -> None:
        found = made(record(ValueError(threading.Lock())))
        assert type(found) is heald.TaskError
        assert any("in throw" in note for note in found.__notes__)

    @pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps(3)])
    def test_of_one_that_cannot_be_loaded_has_its_text(self, data: bytes) -> None:
        found = made(Failure(retry.USER, "ValueError: broken", Payload(data), "Traceback: in far away"))
        assert type(found) is heald.TaskError
        assert any("in far away" in note for note in found.__notes__)


def test_live_holds_the_very_value() -> None:
    value = object()
    assert Live(value).value is value
    assert not Live(value).lazy


@pytest.mark.parametrize(
    "raised",
    [
        OSError(2, "No such file", "a.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        KeyError("x"),
        StopIteration(7),
    ],
    ids=lambda raised: type(raised).__name__,
)
def test_exceptions_of_python_come_back_whole(raised: BaseException) -> None:
    found = failure(raised)
    assert found.exception is not None
    back = pickle.loads(found.exception.data)
    assert (type(back), back.args, str(back)) == (type(raised), raised.args, str(raised))


def test_pickling_elsewhere_in_the_process_is_left_alone() -> None:
    failure(SystemExit(3))
    assert SystemExit not in copyreg.dispatch_table


class TestNotes:
    """What is added to the exception that a task raised."""

    @staticmethod
    def note(outcome: Failure) -> str:
        (found,) = made(outcome).__notes__
        return str(found)

    def test_names_the_task(self) -> None:
        assert self.note(record(ValueError("no"))) == "in task square#7"

    def test_says_which_attempt_when_there_were_more(self) -> None:
        again = msgspec.structs.replace(record(ValueError("no")), attempt=3)
        assert self.note(again) == "in task square#7, attempt 3"

    def test_says_what_the_exception_does_not(self) -> None:
        found = msgspec.structs.replace(record(ValueError("no")), message="it cannot be loaded: ValueError: no")
        assert self.note(found) == "in task square#7: it cannot be loaded: ValueError: no"

    def test_gives_a_hint_that_the_exception_has_not(self) -> None:
        found = msgspec.structs.replace(record(OSError(28, "No space left on device")), hint="the disk of / is full")
        assert self.note(found) == "in task square#7\n  hint: the disk of / is full"

    def test_does_not_repeat_the_hint_of_the_exception(self) -> None:
        found = record(heald.StagingError("no file", hint="look"))
        assert self.note(found) == "in task square#7"
        more = msgspec.structs.replace(found, hint=f"{found.hint}; the disk of / is full")
        assert self.note(more) == "in task square#7\n  hint: the disk of / is full"


def test_errors_of_the_tree_know_their_attempt() -> None:
    lost = made(Failure(retry.WORKER_LOST, "its worker was killed by SIGKILL (signal 9)", attempt=3))
    assert lost.attempt == 3
    assert lost.message == "square#7, attempt 3: its worker was killed by SIGKILL (signal 9)"
