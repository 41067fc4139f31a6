"""Orders are sent ahead, and taken back by force all the time: every task runs exactly once, and gives its value."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import heald

pytestmark = pytest.mark.live


def work(number: int, milliseconds: float, notes: Path) -> int:
    """Note that it ran, and be busy for a while: so short that many go together, or so long that others must go."""
    import time

    descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{number}\n".encode())
    os.close(descriptor)
    end = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < end:
        pass
    return number * number


class Meddler:
    """Takes orders back from workers at random, as fast as the engine lets it."""

    def __init__(self, session: heald.Session, chance: random.Random) -> None:
        assert session._engine is not None
        self.engine = session._engine
        self.dispatch = self.engine.pools["process"].dispatch
        self.chance = chance
        self.taken = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.stop.is_set():
            self.engine.ask(self.meddle)

    def meddle(self) -> None:
        for lane in list(self.dispatch.lanes.values()):
            before = len(lane.fifo)
            if before and self.chance.random() < 0.5:
                self.dispatch.take_back(lane, keep=self.chance.choice([0, 0, 1, 2, 5]))
                self.taken += before - len(lane.fifo)

    def __enter__(self) -> Meddler:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def ran(notes: Path) -> Counter[int]:
    return Counter(map(int, notes.read_text().split()))


def durations(chance: random.Random, count: int) -> list[float]:
    """Mostly short, some of a few milliseconds, few long."""
    return [chance.choices([0.0, 0.1, 3.0, 30.0], [50, 45, 4, 1])[0] for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_every_task_runs_once(session: heald.Session, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    mix = durations(chance, 2000)
    # By two names, so that one is not expected to last as long as the other.
    functions: list[Any] = [heald.task(name="one")(work), heald.task(name="other")(work)]
    with Meddler(session, chance) as meddler:
        futures = [
            chance.choice(functions).submit(number, milliseconds, tmp_path / "notes")
            for number, milliseconds in enumerate(mix)
        ]
        assert [future.result(60) for future in futures] == [number * number for number in range(len(mix))]
    assert meddler.taken > 100
    assert ran(tmp_path / "notes") == Counter(range(len(mix)))


@pytest.mark.parametrize("seed", range(3))
def test_every_task_runs_once_when_some_are_cancelled(session: heald.Session, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    mix = durations(chance, 1000)
    cancelled: set[int] = set()
    with Meddler(session, chance):
        futures = []
        for number, milliseconds in enumerate(mix):
            futures.append(session.submit(work, number, milliseconds, tmp_path / "notes"))
            if chance.random() < 0.05:
                victim = chance.randrange(len(futures))
                if futures[victim].cancel():
                    cancelled.add(victim)
        values = [None if future.cancelled() else future.result(60) for future in futures]
    assert values == [None if number in cancelled else number * number for number in range(len(mix))]
    counts = ran(tmp_path / "notes")
    assert set(counts.values()) == {1}
    assert set(range(len(mix))) - set(counts) <= cancelled


# All examples share one session: to start workers for each would take most of the time.
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([0.0, 0.0, 0.05, 1.0, 6.0]), max_size=60), st.integers(0, 2**32))
def test_every_mix_runs_once(session: heald.Session, tmp_path: Path, mix: list[float], seed: int) -> None:
    notes = tmp_path / "notes"
    notes.write_text("")
    with Meddler(session, random.Random(seed)):
        futures = [session.submit(work, number, milliseconds, notes) for number, milliseconds in enumerate(mix)]
        assert [future.result(60) for future in futures] == [number * number for number in range(len(mix))]
    assert ran(notes) == Counter(range(len(mix)))
