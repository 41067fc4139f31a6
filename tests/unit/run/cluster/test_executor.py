from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest

import heald
from heald.core.errors import ConfigurationError
from heald.core.resources import resources
from heald.site.profile import Limits, NodeShape, Site

SITE = Site("mine", scheduler="slurm", node=NodeShape(cores=64, gpus=4, gpu="nvidia", memory=512 * 10**9))


def test_it_is_printed_as_code() -> None:
    made = heald.ClusterExecutor("local", nodes=2, workers=3, blocks=(1, 0, 4), walltime="1h", label="big")
    same = eval(repr(made), {"heald": heald})
    assert repr(same) == repr(made)
    assert (same.init, same.fewest, same.most, same.walltime) == (1, 0, 4, timedelta(hours=1))
    assert pickle.loads(pickle.dumps(made)).workers == 3


def test_fields_of_the_site_can_be_given() -> None:
    made = heald.ClusterExecutor(SITE, queue="debug", account="me")
    assert (made.site.queue, made.site.account, made.site.name) == ("debug", "me", "mine")


def test_the_line_to_a_login_node_may_be_cut_for_a_while() -> None:
    near, far = heald.ClusterExecutor(SITE), heald.ClusterExecutor(SITE, login="me@there")
    assert (near.far, near.silence, near.lease) == ("", 10, 300)
    assert (far.far, far.silence, far.lease) == ("me@there", 120, 1800)
    given = heald.ClusterExecutor(SITE, login="me@there", silence=5, lease="1m")
    assert (given.silence, given.lease) == (5, 60)
    assert pickle.loads(pickle.dumps(given)).far == "me@there"


@pytest.mark.parametrize(
    "wrong",
    [
        {"nodes": 0},
        {"workers": True},
        {"blocks": 0},
        {"blocks": (2, 0, 1)},
        {"blocks": (0, 2, 1)},
        {"blocks": "many"},
        {"parallelism": 0},
        {"silence": 0.1},
        {"gpus": -1},
        {"walltime": "1m", "notice": "1m"},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        heald.ClusterExecutor("local", **wrong)


def test_a_site_that_is_not_known_is_an_error_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match="polarris"):
        heald.ClusterExecutor("polarris")


@pytest.mark.parametrize(
    ("asks", "said"),
    [
        ({"nodes": 3}, "needs 3 nodes; a block has 2"),
        ({"cpus": 65}, "needs 65 cpus on a node; a node of mine has 64"),
        ({"ranks": 2, "nodes": 2, "cpus": 65}, "needs 65 cpus"),
        ({"gpus": 5}, "needs 5 gpus on a node; a node of mine has 4"),
        ({"memory": "600GB"}, "bytes of memory on a node"),
        ({"walltime": "2h"}, "runs for up to 7200 s; a block lasts 3600 s"),
        ({"walltime": "1h"}, "a block lasts 3600 s"),
        ({"notice": "1h"}, "a block lasts 3600 s"),
        ({"nodes": 2, "ranks": 128, "walltime": "55m"}, None),
    ],
)
def test_what_no_block_could_run(asks: dict[str, Any], said: str | None) -> None:
    found = heald.ClusterExecutor(SITE, nodes=2, walltime="1h").unfit(resources(**asks))
    assert found is said is None or (said is not None and found is not None and said in found)


def test_time_for_ending_is_none_for_running() -> None:
    executor = heald.ClusterExecutor(SITE, walltime="1h", notice="10m")
    assert executor.unfit(resources(walltime="45m")) is None
    assert "a block lasts 3600 s, of which 600 s are for ending" in (executor.unfit(resources(walltime="55m")) or "")


def test_the_workers_asked_for_count() -> None:
    executor = heald.ClusterExecutor(SITE, nodes=2, workers=8, gpus=0)
    assert executor.block_cores == 16
    assert "a node of mine has 8" in (executor.unfit(resources(cpus=9)) or "")
    assert "a node of mine has 0" in (executor.unfit(resources(gpus=1)) or "")


def test_limits_of_the_queue_are_checked_at_the_start() -> None:
    site = Site("small", scheduler="slurm", queue="q", queues={"q": Limits(nodes=1)})
    session = heald.Session([heald.ClusterExecutor(site, nodes=2)], memo=None)
    with pytest.raises(ConfigurationError, match="at most 1"):
        session.start()


def no_licence() -> None:
    raise RuntimeError("no licence here")


def test_nodes_where_no_worker_can_live_are_not_asked_for_again_and_again() -> None:
    executor = heald.ClusterExecutor("local", workers=1, initializer=no_licence)
    with (
        heald.Session([executor], memo=None) as session,
        pytest.raises(heald.WorkerLost, match="workers die before they run anything") as caught,
    ):
        session.submit(abs, -1).result(60)
    assert "no licence here" in str(caught.value)
