from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from heald.core.errors import ConfigurationError
from heald.site import adapter
from heald.site.adapter import connect
from heald.site.command import Answer
from heald.site.local import Local
from heald.site.profile import Site
from heald.site.slurm import Slurm


class Mine(Local):
    """The adapter of somebody else's package."""


@pytest.mark.parametrize("name", ["local", "slurm", "pbs", "flux", "lsf", "gridengine"])
def test_heald_s_own(name: str) -> None:
    throttle = connect(Site("a", scheduler=name))
    assert type(throttle.scheduler).__module__ == f"heald.site.{name}"


def test_people_are_protected_by_default() -> None:
    assert connect(Site("a", scheduler="slurm")).interval == 10
    assert connect(Site("a", scheduler="slurm"), interval=0.5).interval == 0.5
    assert isinstance(connect(Site("a", scheduler="slurm")).scheduler, Slurm)
    assert connect(Site("a")).interval < 1


def test_programs_are_run_on_the_login_node(program: Any) -> None:
    program.answers["squeue"] = program.answers["sacct"] = Answer(0)
    found = connect(Site("a", scheduler="slurm", login="me@there"), ask=program)
    assert found.status(["1"])["1"].state.name == "missing"
    with pytest.raises(ConfigurationError, match=r"a is behind me@there, and its scheduler 'local' starts .* here"):
        connect(Site("a", login="me@there"))


def test_others_are_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", f"{__name__}:Mine", adapter.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: Mine)
    monkeypatch.setattr(adapter, "entry_points", lambda *, group: [point] if group == adapter.GROUP else [])
    assert isinstance(connect(Site("a", scheduler="mine")).scheduler, Mine)


def test_one_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match="there is no scheduler 'slrum'") as caught:
        connect(Site("a", scheduler="slrum"))
    assert caught.value.hint == "did you mean slurm?"
