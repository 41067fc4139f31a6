"""Kills a process that writes a journal, at a random moment, and looks at what it leaves."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heald.store.frame import HEADER
from heald.store.journal import Journal, Sync, read, rewrite

pytestmark = pytest.mark.live

# Appends frames of content known from their number, and says after each flush how many there are. Batches are large,
# so that most of its time goes by inside of writes.
WRITER = """if True:
    import random, sys
    from heald.store.journal import Journal, read
    path, sync, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    count = sum(1 for _ in read(path))
    chance, journal = random.Random(seed), Journal(path, sync=sync)
    while True:
        for _ in range(chance.randrange(1, 100)):
            journal.append(b"%d " % count * (count * 7919 % 9973))
            count += 1
        journal.flush()
        print(count, flush=True)
"""

# Rewrites the journal without end, each time with frames of the next generation.
COMPACTOR = """if True:
    import itertools, sys
    from heald.store.journal import rewrite
    for generation in itertools.count(1):
        rewrite(sys.argv[1], [b"%d" % generation] * 500)
        print(generation, flush=True)
"""


def killed_after(chance: random.Random, script: str, *arguments: str) -> int:
    """Runs a script, kills it some time after it has said a few lines, and gives the last number that it said."""
    lines = chance.randrange(1, 8)
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        time.sleep(chance.uniform(0, 0.005))  # waits for nothing: the end of a line would be always the same moment
        process.kill()
        said += process.stdout.readlines()
    whole = [line for line in said if line.endswith("\n")]
    assert len(whole) >= lines, "the script died by itself"
    return int(whole[-1])


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("HEALD_TEST_SEED") or random.randrange(2**32))
    print(f"HEALD_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.mark.parametrize("sync", ["none", "batch", "each"])
def test_all_that_was_acknowledged_is_there(tmp_path: Path, sync: Sync, chance: random.Random) -> None:
    path = tmp_path / "journal.log"
    Journal(path).close()
    for _ in range(4):
        seed = chance.randrange(2**32)
        acknowledged = killed_after(chance, WRITER, str(path), sync, str(seed))
        size, end, found = path.stat().st_size, HEADER.size, 0
        for end, frame in read(path):  # noqa: B007  its last value is used
            assert frame == b"%d " % found * (found * 7919 % 9973)
            found += 1
        assert found >= acknowledged
        with Journal(path) as journal:
            assert journal.torn == size - end
        print(f"acknowledged {acknowledged}, found {found}, torn {size - end} bytes")


def test_a_rewrite_leaves_the_old_journal_or_the_new(tmp_path: Path, chance: random.Random) -> None:
    path = tmp_path / "journal.log"
    for _ in range(4):
        rewrite(path, [b"0"] * 500)
        acknowledged = killed_after(chance, COMPACTOR, str(path))
        frames = [int(frame) for _, frame in read(path)]
        assert len(frames) == 500
        assert set(frames) == {frames[0]}
        assert frames[0] in (acknowledged, acknowledged + 1)
