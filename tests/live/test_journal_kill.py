"""Kills a process that writes a journal, at a random moment, and looks at what it leaves."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heald.store.frame import HEADER
from heald.store.journal import Journal, Sync, read, rewrite

pytestmark = pytest.mark.live

# Appends frames of content known from their number, and says after each flush how many there are.
WRITER = """if True:
    import random, sys
    from heald.store.journal import Journal, read
    path, sync, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    count = sum(1 for _ in read(path))
    chance, journal = random.Random(seed), Journal(path, sync=sync)
    while True:
        for _ in range(chance.randrange(1, 200)):
            body = random.Random(count).randbytes(100) * (count % 211)
            journal.append(b"%d " % count + body)
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


def killed_after(lines: int, script: str, *arguments: str) -> int:
    """Runs a script, kills it once it has said `lines` lines, and gives the last number that it said."""
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    whole = [line for line in said if line.endswith("\n")]
    assert len(whole) >= lines, "the script died by itself"
    return int(whole[-1])


@pytest.fixture
def chance() -> Iterator[random.Random]:
    seed = int(os.environ.get("HEALD_TEST_SEED") or random.randrange(2**32))
    print(f"HEALD_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.mark.parametrize("sync", ["none", "batch", "each"])
def test_all_that_was_acknowledged_is_there(tmp_path: Path, sync: Sync, chance: random.Random) -> None:
    path = tmp_path / "journal.log"
    Journal(path).close()
    for _ in range(4):
        seed = chance.randrange(2**32)
        acknowledged = killed_after(chance.randrange(1, 20), WRITER, str(path), sync, str(seed))
        size, end, found = path.stat().st_size, HEADER.size, 0
        for end, frame in read(path):  # noqa: B007  its last value is used
            assert frame == b"%d " % found + random.Random(found).randbytes(100) * (found % 211)
            found += 1
        assert found >= acknowledged
        with Journal(path) as journal:
            assert journal.torn == size - end
        print(f"acknowledged {acknowledged}, found {found}, torn {size - end} bytes")


def test_a_rewrite_leaves_the_old_journal_or_the_new(tmp_path: Path, chance: random.Random) -> None:
    path = tmp_path / "journal.log"
    for _ in range(4):
        rewrite(path, [b"0"] * 500)
        acknowledged = killed_after(chance.randrange(1, 10), COMPACTOR, str(path))
        frames = [int(frame) for _, frame in read(path)]
        assert len(frames) == 500
        assert set(frames) == {frames[0]}
        assert frames[0] in (acknowledged, acknowledged + 1)
