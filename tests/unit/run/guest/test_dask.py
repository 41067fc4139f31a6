from __future__ import annotations

import pytest
from distributed import Client, LocalCluster

import heald
from heald.run.guest import dask
from heald.testing.work import echo


def test_without_an_address_it_has_one_of_its_own() -> None:
    with heald.DaskExecutor(workers=1) as executor:
        assert executor.submit(echo, 1).result(60) == 1


def test_a_client_stays_open_and_its_cluster_as_it_was() -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=3, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        executor = heald.DaskExecutor(client=client, workers=2)
        assert repr(executor) == f"heald.DaskExecutor(workers=2, address={cluster.scheduler_address!r})"
        with executor:
            assert executor.submit(echo, 1).result(60) == 1
            keys = client.run_on_scheduler(lambda dask_scheduler: [str(key) for key in dask_scheduler.tasks])
            assert len([key for key in keys if key.startswith("heald-dask-1")]) == 2  # a thread each
        assert not client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
        assert client.submit(echo, 2).result(30) == 2


def test_address_and_client_are_two_ways_of_one() -> None:
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(heald.ConfigurationError, match="one of them"),
    ):
        heald.DaskExecutor("tcp://x:1", client=client)


def test_a_scheduler_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "_PATIENCE", 0.2)
    with pytest.raises(heald.SiteError, match="no Dask scheduler answers at tcp://127"):
        heald.DaskExecutor("tcp://127.0.0.1:1").submit(echo, 1)


def test_another_heald_over_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "versions", lambda: ("3.1.4", "0.0.1"))
    with heald.DaskExecutor(workers=1) as executor:
        future = executor.submit(echo, 1)
        with pytest.raises(heald.WorkerLost, match=r"and Python 3\.1\.4 with heald 0\.0\.1 where"):
            future.result(60)


def test_what_an_agent_ended_of() -> None:
    class Future:
        status = "pending"

        def result(self) -> str:
            return ""

        def exception(self) -> Exception:
            return ValueError("why")

    future = Future()
    assert dask._end(future, "a", {"a": {}}) is None
    assert dask._end(future, "a", {}) == "the Dask worker a is gone"
    for status, reason in (("finished", "it has ended"), ("error", "why"), ("lost", "Dask says that it is lost")):
        future.status = status
        assert dask._end(future, "a", {"a": {}}) == reason
