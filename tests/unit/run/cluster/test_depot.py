from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

import heald
from heald.run.cluster import depot as depots
from heald.run.cluster.depot import Shared, depot
from heald.run.cluster.login import LoginNode
from heald.run.cluster.settings import AgentSettings
from heald.site.profile import Site
from heald.wire.key import Keys

ENDS = [["tcp://10.0.0.1:4000", "tcp://192.168.0.1:4000"], ["tcp://10.0.0.1:4001"]]


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    executor = heald.ClusterExecutor(Site("mine", interface="hsn0"))
    return Shared(executor, tmp_path, tmp_path / "run.heald")


def test_files_lie_in_the_folder_of_the_run(shared: Shared, tmp_path: Path) -> None:
    shared.write("a1.json", b"secret")
    assert stat.S_IMODE((tmp_path / "a1.json").stat().st_mode) == 0o600
    assert shared.tail("a1.json") == "secret"
    assert shared.tail("none") == ""
    shared.close()
    assert (tmp_path / "a1.json").exists()


def test_agents_find_the_head_where_it_is(shared: Shared) -> None:
    assert shared.open(ENDS) == ENDS
    assert (shared.interface, shared.port, shared.ask) == ("hsn0", 0, None)


def test_a_head_that_is_started_again_listens_where_it_did(tmp_path: Path) -> None:
    assert depots.endpoints(tmp_path) == []
    depots.remember(tmp_path, ENDS)
    assert depots.endpoints(tmp_path) == ENDS
    assert depots.ports(tmp_path) == [4000, 4001]
    assert Shared(heald.ClusterExecutor(), tmp_path, tmp_path).port == 4000
    (tmp_path / "head.json").write_text("[")
    assert depots.ports(tmp_path) == []


def test_which_one_an_executor_has(tmp_path: Path, keys: Keys) -> None:
    here = depot(heald.ClusterExecutor(), tmp_path, tmp_path / "run.heald", keys, kept=True)
    assert isinstance(here, Shared)
    site = Site("mine", scheduler="slurm", login="me@there")
    there = depot(heald.ClusterExecutor(site), tmp_path, tmp_path / "run.heald", keys, kept=True)
    assert isinstance(there, LoginNode)
    assert there.interface == "lo"


def test_what_agents_are_told(shared: Shared, keys: Keys, tmp_path: Path) -> None:
    executor = heald.ClusterExecutor(workers=2, memory="1GB", silence=4)
    told = depots.told(executor, keys, shared, ENDS[0])
    assert msgspec.json.decode(msgspec.json.encode(told), type=AgentSettings) == told
    assert (told.endpoints, told.folder, told.directory) == (tuple(ENDS[0]), str(tmp_path), os.getcwd())
    assert (told.workers, told.memory, told.silence, told.lease) == (2, 10**9, 4, 300)
