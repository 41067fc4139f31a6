from __future__ import annotations

import pickle

import heald
from heald.compat.parsl import error


def test_all_pickle() -> None:
    for made in (
        error.BashExitFailure("app", 3),
        error.MissingOutputs("reason", ["a"]),
        error.DependencyError([(ValueError("x"), "task 1")], 2),
        error.WorkerLost(1, "host"),
        error.InvalidResourceSpecification({"cores"}, "why"),
    ):
        back = pickle.loads(pickle.dumps(made))
        assert (type(back), str(back)) == (type(made), str(made))


def test_chain_is_named() -> None:
    root = ValueError("x")
    inner = error.DependencyError([(root, "task 1"), (root, "task 2")], 3)
    outer = error.DependencyError([(inner, "task 3")], 4)
    assert outer.__cause__ is root
    assert "via task 3 <- task 1 (+ others)" in str(outer)


def test_translated() -> None:
    assert isinstance(error.translated(heald.WalltimeExceeded("late")), error.AppTimeout)
    assert isinstance(error.translated(heald.WorkerLost("gone", attempt=1)), error.WorkerLost)
    assert isinstance(error.translated(heald.WorkerLost("no nodes can be had")), error.BadStateException)
    assert isinstance(error.translated(heald.NotPicklable("no")), error.SerializationError)
    own = ValueError()
    assert error.translated(own) is own
