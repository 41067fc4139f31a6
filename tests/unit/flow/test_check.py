"""A site is tried by a block of this machine, which stands in for nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from heald.core.errors import ConfigurationError, SiteError
from heald.flow import check as module
from heald.flow.check import check
from heald.site.node import machine
from heald.site.profile import Limits, NodeShape, Site


def test_each_node_is_tried() -> None:
    said: list[str] = []
    found = check(Site("mine", node=NodeShape(cores=1000)), nodes=2, told=said.append)
    assert (found.site, len(found.nodes), found.seconds > 0) == ("mine", 2, True)
    assert all(one.launcher == "fork" and one.endpoint.startswith("tcp://") and one.trip > 0 for one in found.nodes)
    assert said[-1].endswith("2 of 2 agents are here")


@pytest.mark.parametrize("says", [1, 1000])
def test_a_site_that_is_wrong_about_its_cores_is_told_what_to_write(says: int) -> None:
    here = machine().shape.cores
    found = check(Site("mine", node=NodeShape(cores=says)))
    remarks = [remark.partition(": ")[2] for remark in found.remarks if "cores" in remark]
    told = f"{here} cores for a job, and the site says {says}: set cores = {here} in its [node]"
    assert remarks == ([told] if says != here else [])


def test_a_job_that_fails_says_what_it_printed() -> None:
    with pytest.raises(SiteError, match="no such module: conda"):
        check(Site("mine", setup=("echo no such module: conda; exit 3",)))


def test_agents_that_do_not_come_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGENTS", 0.3)
    idle = tmp_path / "python"
    idle.write_text("#!/bin/sh\necho I am no Python\nexec sleep 60\n")
    idle.chmod(0o700)
    with pytest.raises(SiteError) as raised:
        check(Site("mine", python=str(idle)))
    assert "only 0 of 1 agents came" in raised.value.message
    assert "at tcp://" in raised.value.message
    assert "I am no Python" in raised.value.message


def test_what_the_queue_never_gives_is_not_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="gives a job at most 4"):
        check(Site("mine", queue="debug", queues={"debug": Limits(nodes=4)}), nodes=5)
