"""Clusters of Dask and Ray that lose parts, or all, while tasks of heald run there; and what is left after the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from distributed import Client
from tests import guest

import heald
from heald.run.cluster.bulk import Outlet
from heald.testing.executor import Gate
from heald.testing.work import echo, held

pytestmark = pytest.mark.live

Wait = Callable[..., None]
Lodged = Callable[[], list[psutil.Process]]
Cluster = guest.Dask | guest.Ray


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[guest.Dask]:
    folder = tmp_path / "dask"
    folder.mkdir()
    with guest.dask(folder) as cluster:
        yield cluster


@pytest.fixture
def ray(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[guest.Ray]:
    pytest.importorskip("ray")
    with guest.ray(tmp_path_factory.mktemp("ray")) as cluster:
        for name, value in cluster.variables.items():
            monkeypatch.setenv(name, value)
        yield cluster


@pytest.fixture(params=["dask", "ray"])
def executor(request: pytest.FixtureRequest) -> heald.DaskExecutor | heald.RayExecutor:
    cluster: Cluster = request.getfixturevalue(request.param)
    made = heald.DaskExecutor if request.param == "dask" else heald.RayExecutor
    return made(cluster.address, idle=0.5, grace=0.2)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, executor: heald.DaskExecutor) -> Any:
    return request.getfixturevalue(executor.extra)


def parents() -> list[int]:
    return [process.pid for process in psutil.Process().parents()]


def leave_child(gate: Path) -> None:
    subprocess.run(["sh", "-c", 'cat "$0"; sleep 1000', gate], check=False)


def held_once(gate: Path, file: Path) -> str:
    if not file.exists():
        file.touch()
        return held(gate)
    return "second time"


@pytest.fixture
def lodged(survivors: Callable[[], list[psutil.Process]]) -> Lodged:
    """Processes of heald below workers of other clusters, parents first."""

    def find() -> list[psutil.Process]:
        found = [
            process for process in survivors() if "heald.run.guest.lodge" in " ".join(process.info["cmdline"] or ())
        ]
        return sorted(found, key=lambda process: (process.create_time(), process.pid))

    return find


def test_a_lost_worker_costs_the_task_nothing(executor: heald.DaskExecutor, tmp_path: Path, lodged: Lodged) -> None:
    gate = Gate(tmp_path / "gate")
    with heald.Session([executor], memo=None) as session:
        chain = session.submit(parents).result(60)
        future = session.submit(held_once, gate.path, tmp_path / "begun")
        gate.wait_entered()
        worker = lodged()[0].ppid()  # the process of Dask or Ray
        assert worker in chain
        os.kill(worker, signal.SIGKILL)
        assert future.result(60) == "second time"
        gate.open()


def test_a_lost_cluster_fails_what_was_there(
    executor: heald.DaskExecutor, cluster: Cluster, tmp_path: Path, wait_until: Wait, lodged: Lodged
) -> None:
    gate = Gate(tmp_path / "gate")
    session = heald.Session([executor], memo=None).start()
    future = session.submit(held, gate.path)
    gate.wait_entered()
    waiting = session.submit(echo, future)
    cluster.kill()
    with pytest.raises(heald.WorkerLost, match=rf"{executor.extra}.*is lost"):
        future.result(90)
    assert isinstance(waiting.exception(10), heald.DependencyError)
    gate.open()
    session.close(cancel=True)
    wait_until(lambda: not lodged())


def test_a_scheduler_that_is_gone_is_told(dask: guest.Dask, tmp_path: Path, wait_until: Wait, lodged: Lodged) -> None:
    gate = Gate(tmp_path / "gate")
    session = heald.Session([heald.DaskExecutor(dask.address)], memo=None).start()
    future = session.submit(held, gate.path)
    gate.wait_entered()
    dask.scheduler.kill()
    with pytest.raises(heald.WorkerLost, match=r"the Dask cluster at tcp://.* is lost"):
        future.result(90)
    gate.open()
    session.close(cancel=True)
    wait_until(lambda: not lodged(), 30)


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_killed_driver_leaves_nothing(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, wait_until: Wait, lodged: Lodged
) -> None:
    cluster: Cluster = request.getfixturevalue(name)
    gate = Gate(tmp_path / "gate")
    made = f"heald.{name.capitalize()}Executor({cluster.address!r}, lease=1, silence=0.5)"
    code = (
        f"import heald, pathlib; from tests.live.test_guest import leave_child; "
        f"{made}.submit(leave_child, pathlib.Path({str(gate.path)!r})).result()"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    gate.wait_entered()
    assert lodged()
    driver.kill()
    driver.wait()
    wait_until(lambda: not lodged(), 60)
    gate.open()


def test_what_has_nothing_to_do_is_given_back(executor: heald.DaskExecutor, wait_until: Wait, lodged: Lodged) -> None:
    with heald.Session([executor], memo=None) as session:
        assert session.submit(echo, 1).result(60) == 1
        assert lodged()
        wait_until(lambda: not lodged(), 30)
        assert session.submit(echo, 2).result(60) == 2


def test_dask_has_its_threads_back(dask: guest.Dask) -> None:
    with Client(dask.address, set_as_default=False) as client:
        with heald.Session([heald.DaskExecutor(client=client, idle="100ms")], memo=None) as session:
            assert session.submit(echo, 1).result(60) == 1
            assert client.submit(echo, 3).result(30) == 3  # waits for a thread
        assert client.status == "running"  # it is not ours to close
        kept = client.run_on_scheduler(lambda dask_scheduler: [str(key) for key in dask_scheduler.tasks])
        assert not [key for key in kept if key.startswith("heald")]


def test_a_new_worker_is_used(dask: guest.Dask, tmp_path: Path) -> None:
    gates = [Gate(tmp_path / str(number)) for number in range(3)]
    with heald.Session([heald.DaskExecutor(dask.address)], memo=None) as session:
        futures = [session.submit(held, gate.path) for gate in gates]
        dask.add_worker()
        for gate in gates:
            gate.wait_entered()  # three at a time: more than one worker has threads
        for gate in gates:
            gate.open()
        assert [future.result(30) for future in futures] == ["let go"] * 3


def test_declared_resources_are_used(dask: guest.Dask) -> None:
    dask.add_worker("--resources", "GPU=2", "--memory-limit", "1GB")

    @heald.task(gpus=1, cpus=2)
    def devices() -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    @heald.task(memory="900MB")
    def echoed(value: int) -> int:
        return value

    with heald.Session([heald.DaskExecutor(dask.address)], memo=None) as session:
        assert devices.submit().result(60) == "0"
        assert echoed.submit(3).result(60) == 3
        with pytest.raises(heald.UsageError, match="needs 3 cpus"):
            session.submit(heald.task(echo).options(cpus=3), 1).result(10)
        with pytest.raises(heald.UsageError, match="needs 3 gpus"):
            session.submit(heald.task(echo).options(gpus=3), 1).result(10)


def test_a_task_is_limited_and_stopped_as_elsewhere(executor: heald.DaskExecutor, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")

    @heald.task
    def fill(count: int, gate: Path) -> None:
        kept = b"x" * count
        held(gate)
        del kept

    @heald.command
    def shown(text: str) -> list[str]:
        return ["sh", "-c", 'echo "$0 $COLOUR in $(pwd)"; exit 3', text]

    with heald.Session([executor], memo=None) as session:
        with pytest.raises(heald.WalltimeExceeded):
            session.submit(heald.task(held).options(walltime=0.5), gate.path).result(60)
        with pytest.raises(heald.OutOfMemory, match=r"asked for 0\.1 GB"):
            fill.options(memory="100MB").submit(400_000_000, gate.path).result(60)
        with pytest.raises(heald.CommandFailed) as raised:
            shown.options(variables={"COLOUR": "blue"}, directory=str(tmp_path)).submit("it is").result(60)
        assert raised.value.returncode == 3
        assert Path(raised.value.stdout).read_text() == f"it is blue in {tmp_path}\n"
        with pytest.raises(heald.WorkerLost, match="exited with status 7"):
            session.submit(os._exit, 7).result(60)
    gate.open()


def test_a_large_array_goes_there_once(executor: heald.DaskExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    find = Outlet.find

    def counted(outlet: Outlet, serial: int) -> memoryview | None:
        found = find(outlet, serial)
        sent.append(0 if found is None else found.nbytes)
        return found

    def total(array: Any, factor: int) -> float:
        array[0] = factor  # seen by nobody else, as elsewhere
        return float(array.sum())

    monkeypatch.setattr(Outlet, "find", counted)
    array = np.ones(4_000_000)
    with heald.Session([executor], memo=None) as session:
        futures = [session.submit(total, array, factor) for factor in range(20)]
        assert [future.result(60) for future in futures] == [4_000_000 - 1 + factor for factor in range(20)]
    assert sent == [array.nbytes]
