from __future__ import annotations

from pathlib import Path

import pytest

from heald.compat.parsl.file import File


def test_local() -> None:
    file = File(Path("/data/a.txt"))
    assert (file.scheme, file.filename, file.filepath, str(file)) == ("file", "a.txt", "/data/a.txt", "/data/a.txt")
    assert File("file:///data/a.txt").filepath == "/data/a.txt"


def test_far() -> None:
    file = File("https://example.org/a.txt")
    with pytest.raises(ValueError, match="No local_path"):
        file.filepath
    file.local_path = "/tmp/a.txt"
    assert file.filepath == "/tmp/a.txt"
    assert file.cleancopy().local_path is None


def test_mistake() -> None:
    with pytest.raises(TypeError):
        File(3)  # type: ignore[arg-type]
