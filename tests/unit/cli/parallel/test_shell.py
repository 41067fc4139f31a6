from __future__ import annotations

import pytest

from heald.cli.parallel.shell import shell


def test_the_one_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARALLEL_SHELL", "/bin/mysh")
    assert shell() == "/bin/mysh"


def test_the_users_where_the_parent_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARALLEL_SHELL", raising=False)
    monkeypatch.setattr("os.getppid", lambda: 0)
    monkeypatch.setenv("SHELL", "/bin/bash")
    assert shell() == "/bin/bash"
    monkeypatch.setenv("SHELL", "/usr/bin/fish")  # which quotes otherwise
    assert shell() == "/bin/sh"
