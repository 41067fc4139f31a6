from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.cli.parallel.joblog import Entry
from heald.cli.parallel.result import encoded, results
from heald.cli.parallel.template import Spelling
from heald.core.errors import UsageError

ENTRY = Entry(4, 12.5, 0.25, 0, 2, 3, 0, 'echo "a b", x')


@pytest.fixture
def printed(tmp_path: Path) -> Path:
    file = tmp_path / "printed"
    file.write_bytes(b"one\n\xff")
    return file


def test_a_tree_of_folders(tmp_path: Path, printed: Path) -> None:
    kept = results(str(tmp_path / "out"), Spelling(names=("z", "a")))
    assert not kept.has(4, ("1", "2"))
    kept.keep(ENTRY, ("1", "2"), printed, None)
    assert kept.has(4, ("1", "2"))
    folder = tmp_path / "out" / "a" / "2" / "z" / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["seq", "stderr", "stdout"]
    assert (folder / "stdout").read_bytes() == b"one\n\xff"
    assert (folder / "seq").read_text() == "4"


def test_files_by_a_template(tmp_path: Path, printed: Path) -> None:
    results(f"{tmp_path}/r-{{1}}-{{#}}", Spelling()).keep(ENTRY, ("../x",), printed, printed)
    assert {path.name for path in tmp_path.glob("r-*")} == {
        "r-..\\_x-4", "r-..\\_x-4.err", "r-..\\_x-4.seq",
    }  # fmt: skip
    results(f"{tmp_path}/d-{{}}/", Spelling()).keep(ENTRY, ("x",), None, None)
    assert (tmp_path / "d-x" / "stdout").read_bytes() == b""


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8), min_size=1, max_size=3))
def test_no_value_leads_out_of_the_tree(values: list[str]) -> None:
    for path in results("root", Spelling()).paths(1, values):  # type: ignore[attr-defined]
        assert path.parts[0] == "root"
        assert ".." not in path.parts


@given(st.text(max_size=8), st.text(max_size=8))
def test_names_differ_where_values_do(one: str, other: str) -> None:
    assert (encoded(one) == encoded(other)) == (one == other)


@pytest.mark.parametrize(("ending", "sign"), [("csv", ","), ("tsv", "\t")])
def test_a_table(tmp_path: Path, printed: Path, ending: str, sign: str) -> None:
    path = tmp_path / f"table.{ending}"
    kept = results(str(path), Spelling())
    kept.keep(ENTRY, ("a b", "c\td"), printed, None)
    kept.close()
    with open(path, newline="", errors="surrogateescape") as file:
        head, row = csv.reader(file, delimiter=sign)
    assert head[-4:] == ["V1", "V2", "Stdout", "Stderr"]
    assert row == ["4", ":", "12.500", "0.250", "0", "2", "3", "0", ENTRY.command, "a b", "c\td", "one\n\udcff", ""]


def test_records_of_json(tmp_path: Path, printed: Path) -> None:
    kept = results(str(tmp_path / "table.json"), Spelling())
    kept.keep(ENTRY, ("a",), printed, None)
    kept.close()
    record = json.loads((tmp_path / "table.json").read_text())
    assert (record["Seq"], record["Exitval"], record["V"], record["Stdout"]) == (4, 3, ["a"], "one\n\udcff")


def test_places_where_nothing_can_be_kept(tmp_path: Path, printed: Path) -> None:
    with pytest.raises(UsageError, match="it is a file"):
        results(str(printed), Spelling())
    with pytest.raises(UsageError, match="cannot be written"):
        results(str(tmp_path / "no" / "x.csv"), Spelling())


def test_a_full_disk_is_told(tmp_path: Path, printed: Path) -> None:
    folder = tmp_path / "out" / "1" / "a"
    folder.mkdir(parents=True)
    (folder / "stdout").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        results(str(tmp_path / "out"), Spelling()).keep(ENTRY, ("a",), printed, None)
