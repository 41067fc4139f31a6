from __future__ import annotations

import math
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heald.core.environment import PLAIN, Environment
from heald.core.errors import UsageError
from heald.core.resources import SINGLE, Resources
from heald.core.retry import KINDS, ONCE, USER, Retry
from heald.core.task import FUNCTION, Work
from heald.flow.option import Options, Settings, settings


def test_nothing_given_is_one_core_and_one_attempt() -> None:
    assert settings({}) == Settings()
    assert settings({}).resources == Resources()
    assert settings({}).retry == ONCE
    assert settings({}).environment == PLAIN


def test_every_option_has_its_place() -> None:
    def again(failure: Any, attempt: int) -> bool:
        return True

    chosen = settings(
        {
            "name": "melt",
            "cpus": 2,
            "gpus": 0.5,
            "memory": "1GB",
            "walltime": timedelta(minutes=1),
            "ranks": 4,
            "nodes": 2,
            "retries": 3,
            "retry_if": again,
            "priority": -1,
            "executor": "gpu",
            "memo": True,
            "tags": {"b": 2, "a": 1},
            "directory": "auto",
            "stdout": Path("out.txt"),
            "stderr": "err.txt",
            "variables": {"N": 1},
            "modules": ["gcc/12"],
            "setup": "ulimit -s unlimited",
            "uv": ["numpy"],
        }
    )  # fmt: skip
    assert chosen == Settings(
        "melt", Resources(2, 0.5, 10**9, 60.0, 4, 2), Retry(limit=3), again, -1, "gpu", True, (("a", "1"), ("b", "2")),
        Environment(
            {"N": "1"}, "auto", "out.txt", "err.txt", ("gcc/12",), ("ulimit -s unlimited",), uv=("numpy",)
        ),
    )  # fmt: skip


def test_docstring_and_annotations_name_the_same_options() -> None:
    assert set(get_type_hints(Options)) == set(Options.__annotations__)
    assert all(f"`{name}`" in (Options.__doc__ or "") for name in Options.__annotations__)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("cpu", "did you mean 'cpus'?"),
        ("retry", "did you mean 'retry_if' or 'retries'?"),
        ("wall_time", "did you mean 'walltime'?"),
        ("ranks_per_nodes", "did you mean 'ranks_per_node' or 'ranks'?"),
        ("colour", "there are name, cpus, gpus, memory"),
    ],
)
def test_misspelt_option(given: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"no option '{given}'") as refused:
        settings({given: 1})
    assert refused.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": 3}, "name=3: must be text"),
        ({"executor": None}, "executor=None: must be text"),
        ({"memo": 1}, "memo=1: must be True or False"),
        ({"priority": True}, "priority=True: must be a whole number"),
        ({"priority": 1.5}, "priority=1.5: must be a whole number"),
        ({"priority": 10**20}, "must be a whole number"),
        ({"cpus": 0}, "cpus=0"),
        ({"memory": "lots"}, "'lots' is no size"),
        ({"walltime": -1}, "a duration cannot be -1"),
        ({"ranks": 2, "nodes": 3}, "a node would have none"),
        ({"retries": -1}, "limit must be a whole number, not negative"),
        ({"retries": True}, "retries=True"),
        ({"retries": "3"}, "retries='3': must be a whole number or a Retry"),
        ({"retries": Retry(limit=-1)}, "limit must be a whole number"),
        ({"retries": Retry(limit=1.5)}, "limit must be a whole number"),  # type: ignore[arg-type]
        ({"retries": Retry(lost=-1)}, "lost must be a whole number"),
        ({"retries": Retry(backoff=0.5)}, "backoff must be a factor of at least 1"),
        ({"retries": Retry(grow=math.inf)}, "grow must be a factor of at least 1"),
        ({"retries": Retry(grow=math.nan)}, "grow must be a factor of at least 1"),
        ({"retries": Retry(delay=-1.0)}, "a duration cannot be -1.0"),
        ({"retries": Retry(on=("oom",))}, "'oom' is no class of failure"),
        ({"retry_if": "always"}, "retry_if must be a function"),
        ({"tags": "a=1"}, "tags='a=1': must be a mapping"),
        ({"variables": [("A", "1")]}, "must be a mapping"),
        ({"directory": None}, "directory=None: must be a path"),
        ({"stdout": b"out"}, "stdout=b'out': must be a path"),
    ],
)
def test_option_that_cannot_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        settings(given)
    assert words in refused.value.message


def test_classes_of_failure_are_named_in_the_hint() -> None:
    with pytest.raises(UsageError) as refused:
        settings({"retries": Retry(on=("oom",))})
    assert all(kind in refused.value.hint for kind in KINDS)


def test_retry_is_kept_in_seconds_and_one_kind_needs_no_tuple() -> None:
    retry = settings({"retries": Retry(limit=1, on="user", delay="1m", longest="1h")}).retry  # type: ignore[arg-type]
    assert retry == Retry(limit=1, on=(USER,), delay=60.0, longest=3600.0)


# -- one set upon another --------------------------------------------------------------------------------------------


def test_later_options_win_and_the_others_stay() -> None:
    first = settings({"cpus": 2, "memory": "1GB", "retries": 1, "name": "melt", "variables": {"A": "1"}})
    then = settings({"memory": "2GB", "stdout": "out.txt"}, first)
    assert then.resources == Resources(cpus=2, memory=2 * 10**9)
    assert then.environment == Environment({"A": "1"}, stdout="out.txt")
    assert (then.name, then.retry.limit) == ("melt", 1)
    assert first.resources.memory == 10**9


def test_hosts_and_tasks_per_node_stay_when_others_change() -> None:
    first = settings({"hosts": ["n4", "n3"], "tasks_per_node": 2})
    needs = settings({"cpus": 2}, first).resources
    assert (needs.hosts, needs.tasks_per_node, needs.cpus) == (("n3", "n4"), 2, 2)
    assert settings({"hosts": [], "tasks_per_node": 0}, first).resources == SINGLE


@pytest.mark.parametrize(
    ("first", "then", "ranks", "nodes"),
    [
        ({"ranks": 4}, {"cpus": 2}, 4, 1),
        ({"ranks": 4}, {"nodes": 2}, 4, 2),
        ({"ranks": 4, "nodes": 2}, {"ranks": 8}, 8, 2),
        ({"nodes": 2}, {"nodes": 3}, 3, 3),
        ({"nodes": 2}, {"ranks_per_node": 4}, 8, 2),
        ({"nodes": 2, "ranks_per_node": 4}, {"cpus": 2}, 8, 2),
        ({"ranks": 4}, {"nodes": 2, "ranks_per_node": 3}, 6, 2),
    ],
)
def test_ranks_and_nodes_over_others(first: dict[str, Any], then: dict[str, Any], ranks: int, nodes: int) -> None:
    needs = settings(then, settings(first)).resources
    assert (needs.ranks, needs.nodes) == (ranks, nodes)


def test_directory_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings({"directory": "runs"}).environment.directory == os.fspath(tmp_path / "runs")
    assert settings({"directory": tmp_path}).environment.directory == os.fspath(tmp_path)
    assert settings({"directory": "auto"}).environment.directory == "auto"
    assert settings({"directory": ""}).environment.directory == ""


OPTIONS = {
    "name": st.text(max_size=5),
    "cpus": st.integers(1, 10**6),
    "gpus": st.sampled_from([0, 0.5, 2]),
    "memory": st.integers(0, 10**15),
    "walltime": st.floats(0, 1e9),
    "ranks": st.integers(1, 10**6),
    "retries": st.integers(0, 10**6),
    "priority": st.integers(-(2**31), 2**31 - 1),
    "executor": st.text(max_size=5),
    "memo": st.booleans(),
    "tags": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    "variables": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
}


@given(st.fixed_dictionaries({}, optional=OPTIONS), st.fixed_dictionaries({}, optional=OPTIONS))
def test_options_in_two_steps_are_options_in_one(first: dict[str, Any], then: dict[str, Any]) -> None:
    assert settings(then, settings(first)) == settings({**first, **then})


@given(st.fixed_dictionaries({}, optional=OPTIONS))
def test_what_is_accepted_can_be_written_down(given: dict[str, Any]) -> None:
    chosen = settings(given)
    work = Work(
        chosen.name, FUNCTION, b"", b"", chosen.resources, chosen.retry, chosen.environment, chosen.executor,
        chosen.priority, chosen.tags, chosen.memo,
    )  # fmt: skip
    assert len(work.digest()) == 16


@pytest.mark.parametrize(
    "option",
    [
        {"name": "a\udcff"},
        {"executor": "a\udcff"},
        {"tags": {"a\udcff": "b"}},
        {"variables": {"A": "a\udcff"}},
        {"stdout": "a\udcff"},
        {"directory": "a\udcff"},
    ],
)
def test_text_that_no_record_can_hold_is_refused(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(UsageError, match=f"^{name}=.*: has bytes that are no UTF-8"):
        settings(option)
