from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heald.core.environment import PLAIN, Environment
from heald.core.errors import UsageError
from heald.run.environment import OPTIONS, environment


def test_paths_are_the_same_wherever_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    (tmp_path / "requirements.txt").touch()
    found = environment({"directory": "here", "uv": "requirements.txt", "python": "~/bin/python", "stdout": "out"})
    assert found == Environment(
        directory=f"{tmp_path}/here",
        stdout="out",
        python="/home/ada/bin/python",
        uv=("-r", f"{tmp_path}/requirements.txt"),
    )
    assert environment({"conda": "./md"}).conda == f"{tmp_path}/md"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("docker://ubuntu:24.04", "docker://ubuntu:24.04"),
        ("podman:quay.io/a/b", "podman:quay.io/a/b"),
        ("ch:ubuntu:24.04", "ch:ubuntu:24.04"),
        ("bwrap:./root", "bwrap:/home/ada lovelace/root"),
        ("md.sif", "/home/ada lovelace/md.sif"),
    ],
)
def test_an_image_is_a_path_unless_it_names_a_scheme(given: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getcwd", lambda: "/home/ada lovelace")
    assert environment({"container": given}).container == kept


def test_names_stay_names() -> None:
    assert environment({"python": "python3.12", "modules": "gcc/12"}) == Environment(
        modules=("gcc/12",), python="python3.12"
    )
    assert environment({"conda": "md", "setup": ["a", "b"]}) == Environment(setup=("a", "b"), conda="md")
    assert environment({"uv": "numpy"}).uv == ("numpy",)


def test_it_changes_what_was_there() -> None:
    base = Environment({"X": "1"}, modules=("gcc/12",))
    assert environment({"modules": []}, base) == Environment({"X": "1"})
    assert environment(base) is base
    assert environment({}) == PLAIN


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"conda": "a", "uv": ["b"]}, "conda and uv exclude each other"),
        ({"conda": "a", "python": "b"}, "conda and python exclude each other"),
        ({"uv": ["b"], "container": "c"}, "uv and container"),
        ({"python": 3}, "must be a path"),
        ({"modules": 3}, "must be a list of texts"),
        ({"setup": [""]}, "must be a list of texts"),
        ({"uv": "nowhere.txt"}, "no such file"),
        ({"variables": ["X"]}, "must be a mapping"),
        ({"modul": "gcc"}, "no 'modul'"),
        ({"setup": ["\udcff"]}, "no UTF-8"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        environment(given)


def test_every_field_can_be_given() -> None:
    assert set(OPTIONS) == set(Environment.__struct_fields__)
