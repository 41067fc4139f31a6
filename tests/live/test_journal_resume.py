"""Runs with a journal: killed at any moment and started again, damaged, shared, on a full disk, and watched."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import heald
from heald.core.explain import explain
from heald.core.history import History
from heald.core.state import State
from heald.data.payload import unpack
from heald.run.recorder import events
from heald.store.folder import Folder

pytest.importorskip("numpy")
pytestmark = pytest.mark.live

Wait = Callable[..., None]

# A workflow of all sorts of tasks. Each attempt appends a line to `effects`, the name of its task, just before it ends.
SCRIPT = """
import os, sys, time
import numpy as np
import heald

def effect(name):
    file = os.open("effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{name}\\n".encode())
    os.close(file)

@heald.task
def number(x):
    effect(f"number {x}")
    return x

@heald.task
def array(x):
    time.sleep(0.002)
    effect(f"array {x}")
    return np.full(20_000, float(x))

@heald.task
def total(name, values):
    time.sleep(0.005)
    effect(f"total {name}")
    return float(np.sum([np.sum(value) for value in values]))

@heald.command
def shell(x, before):
    return f"sleep 0.002; echo shell {x} >> effects"

@heald.command
def copy(x, *, outputs):
    return f"echo {x} > {outputs[0]}; echo copy {x} >> effects"

@heald.task
def read(file):
    effect(f"read {file.name}")
    return int(file.read_text())

@heald.join
def tree(depth):
    return [number.submit(100 + depth), tree.submit(depth - 1)] if depth else number.submit(100)

@heald.task(retries=3)
def moody(x):
    effect(f"moody {x}")
    if len(open("effects").read().split(f"moody {x}\\n")) % 2 == 0:
        raise ValueError("not today")
    return x

def flat(value):
    return sum(map(flat, value)) if isinstance(value, list) else value

def workflow():
    numbers = [number.submit(x) for x in range(60)]
    arrays = [array.submit(x) for x in range(10)]
    totals = [total.submit(x, arrays[x:x + 3]) for x in range(8)]
    shells = [shell.submit(x, numbers[x]) for x in range(10)]
    files = [copy.submit(x, outputs=[heald.File(f"file {x}")]) for x in range(5)]
    reads = [read.submit(file.outputs[0]) for file in files]
    moods = [moody.submit(x) for x in range(3)]
    equal = [number.submit(77) for _ in range(3)]
    final = total.submit("final", [*numbers, *totals, *reads, *moods, *equal])
    assert all(future.result().returncode == 0 for future in shells)
    return final.result() + flat(tree.submit(5).result())

if __name__ == "__main__":
    with heald.Session([heald.ProcessExecutor(workers=2, grace=1)], journal="run.heald", memo=None) as session:
        print("result", workflow(), "known", session.tally.recalled, flush=True)
"""
# What the workflow gives, and how many tasks it has.
NUMBERS, TOTALS = sum(range(60)), sum(20_000.0 * (x + x + 1 + x + 2) for x in range(8))
RESULT = NUMBERS + TOTALS + sum(range(5)) + sum(range(3)) + 3 * 77 + sum(range(100, 106))
COUNT = 60 + 10 + 8 + 10 + 5 + 5 + 3 + 3 + 1 + 6 + 6
INNER = 5 + 6  # of them are not submitted again once the value of the outermost join is known


def effects(folder: Path) -> Counter[str]:
    """How often each task has run."""
    file = folder / "effects"
    return Counter(file.read_text().splitlines() if file.exists() else ())


def history(folder: Path) -> History:
    """What the journal in a folder says now."""
    found = History()
    found.extend(events(Folder(folder / "run.heald")))
    return found


def known_of(printed: str) -> int:
    """How many tasks a run of the script found known already; its result must be right."""
    result, known = printed.removeprefix("result ").split(" known ")
    assert float(result) == RESULT
    return int(known)


def done(folder: Path) -> int:
    return sum(record.state is State.done for record in history(folder).records.values())


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("HEALD_TEST_SEED") or random.randrange(2**32))
    print(f"HEALD_TEST_SEED={seed}")
    return random.Random(seed)


# -- killed and started again ----------------------------------------------------------------------------------------


def test_killed_at_any_moment_it_goes_on(scripts: Any, tmp_path: Path, chance: random.Random, wait_until: Wait) -> None:
    finished = 0
    for _ in range(5):
        before = effects(tmp_path)
        process = scripts.start(SCRIPT)
        enough = before.total() + chance.randrange(1, 30)
        wait_until(
            lambda enough=enough, process=process: effects(tmp_path).total() >= enough or process.poll() is not None
        )
        time.sleep(chance.uniform(0, 0.03))  # waits for nothing: the moment after an effect would be always the same
        process.kill()
        process.communicate()
        known = done(tmp_path)
        assert known >= finished, "what was done stays done"
        finished = known
    assert finished - INNER <= known_of(scripts.run(SCRIPT)) <= finished
    assert done(tmp_path) == COUNT
    assert known_of(scripts.run(SCRIPT)) == COUNT - INNER


def test_what_was_done_is_not_done_again(scripts: Any, tmp_path: Path, chance: random.Random, wait_until: Wait) -> None:
    """By their names, which are unique: the effects of tasks that the journal has as done are there once for all."""
    source = "import signal\n" + SCRIPT.replace(
        "moody.submit(x) for x in range(3)", "number.submit(x + 200) for x in range(3)"
    )
    source = source.replace("number.submit(77) for _ in range(3)", "number.submit(77 + x) for x in range(1000, 1003)")
    settled: Counter[str] = Counter()
    for _ in range(4):
        process = scripts.start(source)
        enough = effects(tmp_path).total() + chance.randrange(5, 25)
        wait_until(
            lambda enough=enough, process=process: effects(tmp_path).total() >= enough or process.poll() is not None
        )
        process.kill()
        process.communicate()
        now = effects(tmp_path)
        assert all(now[name] == count for name, count in settled.items()), "done before, and done again"
        settled = Counter({name: now[name] for name in names_done(tmp_path)})
    scripts.run(source)
    now = effects(tmp_path)
    assert all(now[name] == count for name, count in settled.items())


def names_done(folder: Path) -> list[str]:
    """The effects of the tasks that the journal has as done."""
    found = []
    past = history(folder)
    for record in past.records.values():
        name = past.work(record).name
        if record.state is State.done and name in ("number", "array"):
            (x,), _ = unpack(record.task.arguments)
            found.append(f"{name} {x}")
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal_it_goes_on(number: int, scripts: Any, tmp_path: Path, wait_until: Wait) -> None:
    process = scripts.start(SCRIPT)
    wait_until(lambda: effects(tmp_path).total() > 70)
    process.send_signal(number)
    process.communicate(timeout=20)
    known = done(tmp_path)
    assert 0 < known < COUNT
    assert known - INNER <= known_of(scripts.run(SCRIPT)) <= known


def test_what_failed_is_tried_again(scripts: Any, tmp_path: Path) -> None:
    source = """
import os, heald
@heald.task
def check(x):
    open("ran", "a").write(str(x))
    if not os.path.exists("repaired"):
        raise ValueError("broken")
    return x
@heald.task
def good(x):
    open("ran", "a").write(str(x))
    return x
with heald.Session(journal="run.heald", memo=None) as session:
    print([good.submit(1).result(), check.submit(good.submit(2)).exception(), check.submit(3).exception()])
"""
    assert "ValueError('broken')" in scripts.run(source)
    (tmp_path / "repaired").touch()
    assert scripts.run(source) == "[1, None, None]\n"
    assert sorted((tmp_path / "ran").read_text()) == ["1", "2", "2", "2", "3", "3"]


def test_an_edited_script_runs_what_it_must(scripts: Any, tmp_path: Path) -> None:
    scripts.run(SCRIPT)
    before = effects(tmp_path)
    edited = SCRIPT.replace("range(60)", "range(62)").replace(
        "np.full(20_000, float(x))", "np.full(20_000, float(x) + 1)"
    )
    scripts.run(edited)
    more = effects(tmp_path) - before
    arrays = {f"array {x}": 1 for x in range(10)} | {f"total {x}": 1 for x in range(8)}
    assert more == Counter({"number 60": 1, "number 61": 1, "total final": 1} | arrays)


def test_outputs_that_are_gone_are_made_again(scripts: Any, tmp_path: Path) -> None:
    scripts.run(SCRIPT)
    before = effects(tmp_path)
    (tmp_path / "file 3").unlink()
    assert known_of(scripts.run(SCRIPT)) == COUNT - INNER - 1
    assert effects(tmp_path) - before == Counter({"copy 3": 1})


def test_large_values_of_earlier_runs_are_inputs_of_new_tasks(scripts: Any, tmp_path: Path) -> None:
    source = """
import numpy as np, heald, os
@heald.task
def make(x):
    open("ran", "a").write("m")
    return {"array": np.full(1_000_000, float(x)), "text": "x" * 200_000}
@heald.join
def several(x):
    return [make.submit(x), {"other": make.submit(x + 1)}]
@heald.task(retries=heald.Retry(lost=0))
def use(value, array):
    if not os.path.exists("ready"):
        os._exit(1)
    value["array"][:] += 1
    return float(value["array"].sum() + array.sum())
@heald.task(retries=heald.Retry(lost=0))
def deep(value):
    if not os.path.exists("ready"):
        os._exit(1)
    return float(value[0]["array"].sum() + value[1]["other"]["array"].sum())
with heald.Session(journal="run.heald", memo=None) as session:
    one, two, three = make.submit(1), make.submit(2), several.submit(3)
    given = np.ones(500_000)
    used = [use.submit(one, given), use.submit(two, one["array"]), deep.submit(three)]
    print(one.result()["array"].sum(), three.result()[1]["other"]["array"].sum())
    print([future.exception() and type(future.exception()).__name__ or future.result() for future in used])
"""
    assert scripts.run(source) == "1000000.0 4000000.0\n" + str(["WorkerLost"] * 3) + "\n"
    (tmp_path / "ready").touch()
    assert scripts.run(source) == "1000000.0 4000000.0\n[2500000.0, 4000000.0, 7000000.0]\n"
    assert (tmp_path / "ran").read_text() == "mmmm"


# -- damaged ---------------------------------------------------------------------------------------------------------


def test_a_torn_journal_goes_on(scripts: Any, tmp_path: Path, chance: random.Random) -> None:
    scripts.run(SCRIPT)
    journal = tmp_path / "run.heald" / "journal.log"
    whole = journal.read_bytes()
    for _ in range(4):
        journal.write_bytes(whole[: chance.randrange(len(whole))])
        (tmp_path / "effects").unlink()
        assert known_of(scripts.run(SCRIPT)) < COUNT
        assert done(tmp_path) == COUNT


def test_an_empty_journal_is_a_new_one(scripts: Any, tmp_path: Path) -> None:
    (tmp_path / "run.heald").mkdir()
    (tmp_path / "run.heald" / "journal.log").touch()
    assert known_of(scripts.run(SCRIPT)) == 0


def test_a_corrupt_journal_is_refused(scripts: Any, tmp_path: Path, chance: random.Random) -> None:
    scripts.run(SCRIPT)
    before = effects(tmp_path)
    journal = tmp_path / "run.heald" / "journal.log"
    whole = bytearray(journal.read_bytes())
    whole[chance.randrange(len(whole) // 4, len(whole) // 2)] ^= 0xFF
    journal.write_bytes(whole)
    printed = scripts.run(SCRIPT, status=1)
    assert "heald.core.errors.JournalCorrupt: " in printed
    assert str(journal.relative_to(tmp_path)) in printed
    assert "hint: " in printed
    assert effects(tmp_path) == before
    assert journal.read_bytes() == whole, "nothing was thrown away"
    assert Folder(tmp_path / "run.heald").owner is None


@pytest.mark.parametrize("content", [b"not a journal, but a text\n" * 100, bytes(1000)])
def test_what_is_no_journal_is_refused(content: bytes, scripts: Any, tmp_path: Path) -> None:
    (tmp_path / "run.heald").mkdir()
    journal = tmp_path / "run.heald" / "journal.log"
    journal.write_bytes(content)
    printed = scripts.run(SCRIPT, status=1)
    assert "heald.core.errors.Journal" in printed
    assert journal.read_bytes() == content


def test_a_journal_where_none_can_be(scripts: Any, tmp_path: Path) -> None:
    (tmp_path / "run.heald").write_text("a file")
    printed = scripts.run(SCRIPT, status=1)
    assert "heald.core.errors.JournalError: cannot claim run.heald: File exists" in printed
    assert "hint: that is a file: name a folder" in printed


def test_a_value_that_is_gone_is_made_again(scripts: Any, tmp_path: Path) -> None:
    source = """
import numpy as np, heald
@heald.task
def make():
    print("made", file=open("made.txt", "a"))
    return np.ones(1_000_000)
@heald.task
def add(value, more):
    return float(value.sum()) + more
with heald.Session(journal="run.heald", memo=None) as session:
    made = make.submit()
    print(add.submit(made, 1).result(), add.submit(made, MORE).result())
"""
    scripts.run(source.replace("MORE", "2"))
    (kept,) = (file for file in (tmp_path / "run.heald" / "objects").glob("??/*") if file.stat().st_size > 1_000_000)
    kept.unlink()
    assert "1000001.0 1000003.0" in scripts.run(source.replace("MORE", "3"))
    assert (tmp_path / "made.txt").read_text() == "made\nmade\n"


def test_a_value_that_is_damaged_fails_who_needs_it(scripts: Any, tmp_path: Path) -> None:
    source = """
import numpy as np, heald
@heald.task
def make():
    return np.ones(1_000_000)
with heald.Session(journal="run.heald", memo=None) as session:
    made = make.submit()
    print(made.exception(), made.exception() or made.result().sum())
"""
    scripts.run(source)
    (kept,) = (file for file in (tmp_path / "run.heald" / "objects").glob("??/*") if file.stat().st_size > 1_000_000)
    kept.write_bytes(bytes(kept.stat().st_size))
    printed = scripts.run(source)
    assert "make#1: the value cannot be unpickled here: " in printed
    assert "is damaged" in printed
    assert "hint: remove it and start the script again" in printed
    kept.unlink()
    assert "None 1000000.0" in scripts.run(source)


# -- shared ----------------------------------------------------------------------------------------------------------

HELD = SCRIPT.replace(
    'print("result"', 'number.submit(1000).result(); print("held", flush=True); input(); print("result"'
)


def test_two_runs_on_one_journal(scripts: Any, tmp_path: Path) -> None:
    (tmp_path / "held.py").write_text(HELD)
    with subprocess.Popen(
        [sys.executable, "held.py"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "held\n"
        printed = scripts.run(SCRIPT, name="second.py", status=1)
        assert "heald.core.errors.JournalLocked: run.heald is written by process" in printed
        assert str(first.pid) in printed
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.stdout.readline().startswith(f"result {RESULT}")
        assert first.wait(20) == 0
    assert known_of(scripts.run(SCRIPT)) == COUNT - INNER


def test_two_sessions_on_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.heald"
    with heald.Session([heald.ThreadExecutor(1)], journal=path, memo=None) as session:
        before = session.submit(max, 1, 2)
        with pytest.raises(heald.JournalLocked, match="is written by process"):
            heald.Session([heald.ThreadExecutor(1)], journal=path).start()
        assert before.result(10) == session.submit(max, 2, 1).result(10) == 2
    with heald.Session([heald.ThreadExecutor(1)], journal=path, memo=None) as session:
        assert session.submit(max, 1, 2).result(10) == 2


def test_many_at_once_want_the_same_journal(scripts: Any, tmp_path: Path) -> None:
    processes = [scripts.start(SCRIPT, name=f"script{x}.py") for x in range(4)]
    ended = [(process, *process.communicate(timeout=60)) for process in processes]
    won = [stdout for process, stdout, _ in ended if process.returncode == 0]
    assert won
    assert all(stdout.startswith(f"result {RESULT}") for stdout in won)
    assert all("JournalLocked" in stderr for process, _, stderr in ended if process.returncode)
    assert all(count == 1 for name, count in effects(tmp_path).items() if not name.startswith(("moody", "number 77")))


# -- a full disk -----------------------------------------------------------------------------------------------------


def test_a_full_disk_does_not_end_the_run(scripts: Any, tmp_path: Path) -> None:
    """A limit on the size of files stands for it: the system refuses to write in the same place."""
    limited = SCRIPT.replace(
        'print("result"',
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY)); "
        "number.submit(big := np.ones(100_000)); print('result'",
    ).replace('effect(f"number {x}")\n    return x', 'effect(f"number {np.sum(x)}")\n    return x')
    printed = scripts.run(limited, status=1)
    assert f"result {RESULT}" in printed
    assert "JournalError: the run is over, but its journal lacks the end of it: cannot write" in printed
    assert "File too large" in printed
    assert "then start the script again" in printed
    known = done(tmp_path)
    assert known < COUNT
    again = SCRIPT.replace('effect(f"number {x}")\n    return x', 'effect(f"number {np.sum(x)}")\n    return x')
    assert known - INNER <= known_of(scripts.run(again)) <= known


# -- watched ---------------------------------------------------------------------------------------------------------


def test_a_run_can_be_listed_and_explained_meanwhile(scripts: Any, tmp_path: Path, wait_until: Wait) -> None:
    source = """
import heald, os, time
@heald.task
def hold(x):
    while not os.path.exists("gate"):
        time.sleep(0.01)
    return x
@heald.task
def fail():
    raise ValueError("mine")
with heald.Session([heald.ProcessExecutor(workers=1)], journal="run.heald", memo=None) as session:
    heald.task(max).submit(1, 2).result()
    failed = fail.submit()
    failed.exception()
    held = hold.submit(1)
    later = [hold.submit(x) for x in range(2, 4)]
    waiting = hold.submit([held, *later])
    dead = hold.submit(failed)
    print("ready", flush=True)
    waiting.result()
"""
    process = scripts.start(source)
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    wait_until(lambda: [one.state for one in history(tmp_path).records.values()].count(State.running) == 1)
    past = history(tmp_path)
    states = {f"{past.work(record).name}#{task}": record.state.name for task, record in past.records.items()}
    assert states == {
        "max#1": "done",
        "fail#2": "failed",
        "hold#3": "running",
        "hold#4": "ready",
        "hold#5": "ready",
        "hold#6": "waiting",
        "hold#7": "failed",
    }
    running = past.records[3]
    assert (running.executor, running.worker) == ("process", "worker-1")
    assert running.pid > 0
    assert past.records[2].failure is not None
    assert past.records[2].failure.message == "ValueError: mine"
    assert past.records[7].failure is not None
    assert past.records[7].failure.chain == ("hold#7", "fail#2")
    assert past.opened[0].pid == process.pid
    assert explain(past.graph, 3).startswith("hold#3 runs")
    assert "ready to run" in explain(past.graph, 4)
    assert explain(past.graph, 6).startswith("hold#6: it waits for hold#3 (running), hold#4")
    (tmp_path / "gate").touch()
    process.communicate(timeout=20)
    past = history(tmp_path)
    assert Counter(record.state for record in past.records.values()) == {State.done: 5, State.failed: 2}
    assert past.closed is not None
    assert all(
        record.usage is not None and record.usage.seconds >= 0 for record in past.records.values() if record.attempt
    )


def test_reading_while_it_writes_never_fails(scripts: Any, tmp_path: Path) -> None:
    process = scripts.start(SCRIPT)
    journal = tmp_path / "run.heald" / "journal.log"
    seen = 0
    while process.poll() is None:
        if journal.exists():
            now = done(tmp_path)
            assert now >= seen
            seen = now
    assert process.communicate()[0].startswith(f"result {RESULT}")
    assert done(tmp_path) == COUNT
