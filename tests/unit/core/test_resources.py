from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.errors import UsageError
from heald.core.resources import SINGLE, Resources, resources, seconds, size

FACTORS = {"ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
SIZES = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SIZES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "k": 10**3, "G": 10**9}
amounts = st.integers(0, 10**4) | st.floats(0, 10**4).map(lambda value: round(value, 3))
odd = ["-1", "1e3", "nan", "inf", "", " ", "1:2:3:4", "1 2", "4XB", "m", "9" * 400]
junk = st.text(max_size=12) | st.sampled_from(odd)
numbers = st.floats() | st.integers() | st.just(10**400) | st.booleans() | st.none()


def attempted(parse: Callable[[Any], float], value: Any) -> tuple[float, UsageError | None]:
    try:
        return parse(value), None
    except UsageError as refused:
        return 0, refused


@given(amounts, st.sampled_from(sorted(FACTORS)), st.sampled_from(["", " "]))
def test_durations_with_a_unit(amount: float, unit: str, gap: str) -> None:
    assert seconds(f"{amount}{gap}{unit}") == pytest.approx(amount * FACTORS[unit])
    assert seconds(f" {amount}{gap}{unit.upper()} ") == pytest.approx(amount * FACTORS[unit])


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_durations_as_a_clock_shows_them(hours: int, minutes: int, rest: int) -> None:
    spent = timedelta(hours=hours, minutes=minutes, seconds=rest)
    assert seconds(f"{hours}:{minutes:02}:{rest:02}") == seconds(spent) == spent.total_seconds()
    assert seconds(f"{hours}h {minutes}m {rest}s") == seconds(f"{hours}h{minutes}min{rest}s") == spent.total_seconds()
    assert seconds(f"{minutes}:{rest:02}") == minutes * 60 + rest


@given(st.floats(0, 1e12) | st.integers(0, 10**12))
def test_durations_in_seconds(value: float) -> None:
    assert seconds(value) == value
    assert isinstance(seconds(value), float)


@given(junk | numbers | st.timedeltas() | st.binary() | st.lists(st.integers()))
def test_any_other_duration_is_refused_with_a_hint(value: Any) -> None:
    found, refused = attempted(seconds, value)
    assert 0 <= found < math.inf
    assert refused is None or (repr(value) in refused.message and refused.hint)


@pytest.mark.parametrize("value", ["", "m", "-5", "-5m", "5x", "1.2.3s", "1 2", "3m 4", "1:2:3:4", "ten", "1e3"])
def test_text_that_is_no_duration(value: str) -> None:
    with pytest.raises(UsageError, match="no duration"):
        seconds(value)


@pytest.mark.parametrize("value", [-1, -0.1, math.inf, math.nan, timedelta(seconds=-1), "9" * 400, 10**400])
def test_durations_that_cannot_be(value: Any) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        seconds(value)


@given(st.integers(0, 1000), st.sampled_from(sorted(SIZES)), st.sampled_from(["", " "]))
def test_sizes_with_a_unit(amount: int, unit: str, gap: str) -> None:
    assert size(f"{amount}{gap}{unit}") == amount * SIZES[unit]
    assert size(f" {amount}{gap}{unit.lower()} ") == amount * SIZES[unit]


@given(st.integers(0, 2**53 - 1))
def test_sizes_in_bytes(value: int) -> None:
    assert size(value) == size(float(value)) == value


@given(junk | numbers | st.binary() | st.lists(st.integers()))
def test_any_other_size_is_refused_with_a_hint(value: Any) -> None:
    found, refused = attempted(size, value)
    assert 0 <= found < 2**53
    assert refused is None or (repr(value) in refused.message and refused.hint)


@pytest.mark.parametrize("value", ["", "GB", "-1GB", "4XB", "4GBB", "4i", "1 2", "9" * 400, True, None, -1, math.nan])
def test_what_is_no_size(value: Any) -> None:
    with pytest.raises(UsageError, match="no size"):
        size(value)


def test_hosts_are_a_set_of_names() -> None:
    assert resources(hosts=["n4", "n3", "n4"]) == resources(hosts=("n3", "n4"))
    assert resources(hosts="n3").hosts == ("n3",)
    assert resources().hosts == ()


def test_one_core_is_the_default() -> None:
    assert resources() == SINGLE == Resources(1, 0.0, 0, 0.0, 1, 1)
    assert resources(walltime=None, memory=None, notice=None) == SINGLE


@pytest.mark.parametrize(
    ("asked", "ranks", "nodes", "per_node", "cores"),
    [
        ({}, 1, 1, 1, 1),
        ({"ranks": 4}, 4, 1, 4, 4),
        ({"nodes": 3}, 3, 3, 1, 1),
        ({"nodes": 2, "ranks": 5, "cpus": 2}, 5, 2, 3, 6),
        ({"nodes": 2, "ranks_per_node": 4}, 8, 2, 4, 4),
        ({"nodes": 2, "ranks_per_node": 4, "ranks": 8}, 8, 2, 4, 4),
    ],
)
def test_ranks_spread_over_nodes(asked: dict[str, int], ranks: int, nodes: int, per_node: int, cores: int) -> None:
    needs = resources(**asked)  # type: ignore[arg-type]
    assert (needs.ranks, needs.nodes, needs.ranks_per_node, needs.cpus_per_node) == (ranks, nodes, per_node, cores)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cpus": 0}, "cpus=0"),
        ({"cpus": 1.5}, "cpus=1.5"),
        ({"cpus": True}, "cpus=True"),
        ({"cpus": "2"}, "cpus='2'"),
        ({"cpus": 10**30}, "cpus=1000"),
        ({"nodes": -1}, "nodes=-1"),
        ({"ranks": 0}, "ranks=0"),
        ({"ranks_per_node": 0}, "ranks_per_node=0"),
        ({"gpus": -1}, "gpus=-1"),
        ({"gpus": 1.5}, "gpus=1.5"),
        ({"gpus": math.nan}, "gpus=nan"),
        ({"gpus": math.inf}, "gpus=inf"),
        ({"gpus": True}, "gpus=True"),
        ({"gpus": "1"}, "gpus='1'"),
        ({"memory": "lots"}, "'lots' is no size"),
        ({"walltime": "soon"}, "'soon' is no duration"),
        ({"ranks": 3, "nodes": 2, "ranks_per_node": 2}, "ranks=3 is not nodes=2 x ranks_per_node=2"),
        ({"ranks": 2, "nodes": 3}, "a node would have none"),
        ({"hosts": 3}, "hosts=3: must be names of machines"),
        ({"hosts": ["n1", ""]}, "must be names of machines"),
        ({"hosts": ["n1"], "nodes": 2}, "there are only 1"),
        ({"tasks_per_node": -1}, "tasks_per_node=-1"),
        ({"tasks_per_node": 1.0}, "tasks_per_node=1.0"),
        ({"tasks_per_node": True}, "tasks_per_node=True"),
    ],
)
def test_needs_that_cannot_be(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        resources(**asked)
    assert words in str(refused.value)


@given(st.sampled_from([0, 0.25, 0.5, 1, 1.0, 2, 8.0]))
def test_gpus_are_whole_or_a_fraction_of_one(gpus: float) -> None:
    assert resources(gpus=gpus).gpus == gpus


def test_a_notice_is_shorter_than_the_walltime() -> None:
    assert resources(notice="1m").span == 60
    assert resources(notice="1m", walltime="1h").span == 3600
    with pytest.raises(UsageError, match="notice='1h': must be less than walltime='1h'"):
        resources(notice="1h", walltime="1h")
