from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from heald.core.allocation import Allocation, AllocationState
from heald.run.cluster.ledger import Ledger, read


def allocation(name: str, job: str | None = "100") -> Allocation:
    return Allocation(id=name, site="mine", nodes=1, walltime=timedelta(hours=1), job=job)


def test_what_a_killed_process_left(tmp_path: Path) -> None:
    assert read(tmp_path) == ()
    first = Ledger(tmp_path)
    first.end(allocation("a1"), AllocationState.ended, "TimeLimit")
    first.keep([allocation("a2"), allocation("a3", job=None)])

    second = Ledger(tmp_path)
    assert [one.id for one in second.former()] == ["a2"]
    assert [(one.id, one.state.name, one.reason.split()[0]) for one in second.over] == [
        ("a1", "ended", "TimeLimit"),
        ("a3", "failed", "the"),
    ]
    assert all(one.ends for one in second.over)
    assert second.name(["a2"]) == "a4"
    second.revive("a3")
    assert [one.id for one in second.over] == ["a1"]


def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    Ledger(tmp_path).keep([allocation("a1")])
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert [one.id for one in read(tmp_path)] == ["a1"]


def test_a_file_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "allocations.json").write_text("[{")
    assert read(tmp_path) == ()
    assert Ledger(tmp_path).name([]) == "a1"
