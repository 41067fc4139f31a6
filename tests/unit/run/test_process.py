from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest

import heald
from heald.run.process import ProcessExecutor

CORES = sorted(os.sched_getaffinity(0))


def test_uses_all_cores_by_default() -> None:
    assert ProcessExecutor().workers == len(CORES)


def test_settings_are_kept_as_they_are_meant() -> None:
    made = ProcessExecutor(3, label="gpu", gpus=2, memory="4GB", grace=timedelta(seconds=2))
    assert made.cores == (0, 1, 2)
    assert made.gpus == ("0", "1")
    assert made.memory == 4_000_000_000
    assert made.grace_seconds == 2.0
    assert ProcessExecutor(1, gpus=["GPU-a", "GPU-b"]).gpus == ("GPU-a", "GPU-b")


def test_bound_it_uses_the_cores_that_there_are() -> None:
    assert ProcessExecutor(1, bind=True).cores == (CORES[0],)


@pytest.mark.parametrize(
    "made",
    [
        ProcessExecutor(2),
        ProcessExecutor(1, label="a b", gpus=["x"], memory="1GiB", bind=True, grace="1m"),
        ProcessExecutor(3, gpus=2, grace=timedelta(seconds=2)),
        ProcessExecutor(1, environment={"modules": "gcc/12", "variables": {"X": 1}, "conda": "md"}),
    ],
    ids=repr,
)
def test_repr_is_code(made: ProcessExecutor) -> None:
    again = eval(repr(made), {"heald": heald})
    assert repr(again) == repr(made)
    assert (again.cores, again.gpus, again.grace_seconds) == (made.cores, made.gpus, made.grace_seconds)
    assert again.environment == made.environment


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "workers=0"),
        ({"workers": -1}, "workers=-1"),
        ({"workers": 1.5}, "workers=1.5"),
        ({"workers": True}, "workers=True"),
        ({"workers": "2"}, "workers='2'"),
        ({"workers": len(CORES) + 1, "bind": True}, "cannot be bound"),
        ({"memory": "much"}, "'much' is no size"),
        ({"memory": -1}, "-1 is no size"),
        ({"grace": "soon"}, "'soon' is no duration"),
        ({"grace": -1}, "cannot be -1"),
        ({"gpus": -1}, "gpus=-1"),
        ({"gpus": True}, "gpus=True"),
        ({"gpus": "01"}, "gpus='01'"),
        ({"gpus": ["0", "0"]}, "each once"),
        ({"label": ""}, "label=''"),
        ({"label": "join"}, "label='join'"),
        ({"label": 3}, "label=3"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(heald.UsageError, match=message):
        ProcessExecutor(**given)
