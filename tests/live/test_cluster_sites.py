"""The same tasks on nodes of every kind of scheduler: Slurm is in `test_cluster`; PBS and Flux are fakes, named so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.testbed.flux import FakeFlux
from tests.testbed.gridengine import GridEngine
from tests.testbed.host import Hosts, python
from tests.testbed.pbs import FakePbs

from heald.site.profile import site as convert
from heald.site.profile import toml

SCRIPT = """
import json, os, socket, sys, time
import heald


@heald.task
def where(number):
    time.sleep(0.3)
    return socket.gethostname()


@heald.command
def sort(number):
    return f"hostname | tr n N"


if __name__ == "__main__":
    with heald.Session([heald.ClusterExecutor(sys.argv[1], nodes=4, workers=1, walltime="5m")], memo=None):
        hosts = {future.result() for future in where.map(range(24))}
        print(*sorted(hosts), sort.submit(1).result().text.strip()[0])
"""


def run(testbed: Hosts, folder: Path, **site: Any) -> None:
    """Run the script on the head host with the site: all four nodes are used."""
    file = folder / "testbed.toml"
    file.write_text(toml(convert({"name": "testbed", **site}, file.name)))
    done = testbed.run("n0", python(folder, SCRIPT, file), folder=folder, timeout=120)
    assert done.stdout == "n1 n2 n3 n4 N\n", done.stderr


def test_grid_engine(gridengine: GridEngine, tmp_path: Path) -> None:
    # A job there asks for slots: this parallel environment gives those of whole nodes.
    run(gridengine.hosts, tmp_path, scheduler="gridengine", constraint="whole", node={"cores": 4})


def test_a_job_that_got_fewer_nodes_than_it_asked_for(gridengine: GridEngine, tmp_path: Path) -> None:
    script = f"""
import sys, heald, heald.flow.check as module
from heald.site import catalog
module._AGENTS = 1.0
try:
    module.check(catalog.find({str(tmp_path / "small.toml")!r}), 2)
except heald.SiteError as raised:
    print(raised)
"""
    small = convert({"name": "small", "scheduler": "gridengine", "constraint": "whole", "node": {"cores": 2}}, "small")
    (tmp_path / "small.toml").write_text(toml(small))  # four slots are all of one node here
    said = gridengine.hosts.run("n0", python(tmp_path, script), folder=tmp_path, timeout=60).stdout
    assert "alone, and 2 nodes were asked for" in said
    assert "`constraint` and `directives`" in said


def test_fake_pbs(pbs: FakePbs, tmp_path: Path) -> None:
    run(pbs.hosts, tmp_path, scheduler="pbs")


def test_fake_flux(flux: FakeFlux, tmp_path: Path) -> None:
    run(flux.hosts, tmp_path, scheduler="flux")


def test_hosts_by_ssh(hosts: Hosts, tmp_path: Path) -> None:
    run(hosts, tmp_path, scheduler="ssh", hosts=["n1", "n2", "n3", "n4"])
