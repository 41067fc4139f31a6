from __future__ import annotations

from collections.abc import Iterator

import pytest

import heald
from heald.core.resources import Resources
from heald.run.guest.pool import GuestPool
from heald.testing.work import echo


@pytest.fixture
def session() -> Iterator[heald.Session]:
    with heald.Session([heald.DaskExecutor(workers=2)], memo=None) as session:
        yield session


def pool_of(session: heald.Session) -> GuestPool:
    assert session._engine is not None
    found = session._engine.pools["dask"]
    assert isinstance(found, GuestPool)
    return found


def test_agents_of_nobody_are_refused(session: heald.Session) -> None:
    pool = pool_of(session)
    assert session.submit(echo, 1).result(60) == 1
    assert session._engine is not None
    (remote,) = session._engine.ask(lambda: pool.remotes("dask-1"))
    import msgspec

    from heald.run.cluster import dialogue

    stranger = dialogue.encode(msgspec.structs.replace(remote.hello, allocation="dask-77"))
    assert "of a process that is over" in pool.met(b"dask-77.x.1", stranger)
    assert "not understood" in pool.met(b"x", b"nonsense")


def test_what_it_could_never_run_is_told(session: heald.Session) -> None:
    pool = pool_of(session)
    assert pool.unfit(Resources(cpus=2)) is None
    assert "needs 3 cpus" in str(pool.unfit(Resources(cpus=3)))
    assert "needs 2 nodes" in str(pool.unfit(Resources(nodes=2, ranks=2)))


def test_an_agent_that_is_given_up_is_replaced(session: heald.Session) -> None:
    pool = pool_of(session)
    assert session.submit(echo, 1).result(60) == 1
    assert session._engine is not None
    session._engine.ask(lambda: pool.give_up("dask-1", "for a test"))
    assert session.submit(echo, 2).result(60) == 2
    assert "dask-1" not in pool._lodging.agents
