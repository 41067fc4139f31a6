from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests import guest

import heald
from heald.run.guest import ray
from heald.run.guest.landlord import ClusterLost, Place
from heald.testing.work import echo

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[guest.Ray]:
    with guest.ray(tmp_path_factory.mktemp("ray"), "--num-gpus", "2") as cluster:
        yield cluster


@pytest.fixture
def address(cluster: guest.Ray, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in cluster.variables.items():
        monkeypatch.setenv(name, value)
    return cluster.address


@pytest.fixture
def apart(address: str, tmp_path: Path) -> Iterator[ray.Apart]:
    apart = ray.Apart(address, None, tmp_path)
    yield apart
    apart.close()


def visible() -> tuple[str | None, str | None]:
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")


def test_places_are_nodes_with_what_is_free(apart: ray.Apart) -> None:
    look = apart.look()
    (whole,), (free,) = look.whole, look.free
    assert (whole.name, whole.cores, whole.gpus) == (free.name, 2, 2)
    assert whole.memory > 0
    assert look.over == {}


def test_an_agent_that_fails_tells_why(apart: ray.Apart) -> None:
    (place,) = apart.look().free
    apart.begin("x-1", Place(place.name, 1), b"nonsense")
    over: dict[str, str] = {}
    while not over:
        over.update(apart.look().over)
    assert "JSON is malformed" in over["x-1"]
    apart.end(["x-1", "x-2"])  # both are over


def test_devices_are_those_that_ray_gives(address: str) -> None:
    with heald.Session([heald.RayExecutor(address)], memo=None) as session:
        assert session.submit(
            heald.task(visible).options(gpus=0.5),
        ).result(60) == ("0", "1")
        assert session.submit(heald.task(visible).options(gpus=2, cpus=2)).result(60) == ("0,1", "2")
        with pytest.raises(heald.UsageError, match="needs 3 cpus"):
            session.submit(heald.task(echo).options(cpus=3), 1).result(30)


def test_without_an_answer_it_is_lost(apart: ray.Apart) -> None:
    psutil.Process(apart._process.pid).kill()
    with pytest.raises(ClusterLost, match=r"the Ray cluster at [0-9.]+:\d+ is lost"):
        apart.look()


def test_nobody_there_is_told_at_once() -> None:
    with pytest.raises(heald.SiteError, match=r"the Ray cluster at 127\.0\.0\.1:1 does not answer: .* refused"):
        heald.RayExecutor("127.0.0.1:1").submit(echo, 1)


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "auto"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(heald.ConfigurationError, match="must be a host and a port"):
        heald.RayExecutor(address)
