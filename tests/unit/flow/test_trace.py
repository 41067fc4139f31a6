"""Reading traces: both shapes of the format, and all that may be wrong with a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from heald.core.errors import CycleError, UsageError
from heald.flow.trace import Trace, TracedTask

Read = Callable[[Any], Trace]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a document as if it were in a file."""

    def read(document: Any) -> Trace:
        file = tmp_path / "trace.json"
        file.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
        return Trace.read(file)

    return read


def task(name: str, *parents: str, reads: tuple[str, ...] = (), writes: tuple[str, ...] = ()) -> dict[str, Any]:
    files = {"inputFiles": [*reads], "outputFiles": [*writes]}
    return {"id": name, "name": f"step_{name}", "parents": [*parents], "children": [], **files}


def document(*tasks: dict[str, Any], seconds: float = 2.0, version: Any = "1.5", **sizes: int) -> dict[str, Any]:
    """A trace of the shape from 1.5 on, in which every task took as long."""
    execution = [{"id": one["id"], "runtimeInSeconds": seconds, "coreCount": 2, "avgCPU": 98.2} for one in tasks]
    files = [{"id": name, "sizeInBytes": size} for name, size in sizes.items()]
    return {
        "name": "small",
        "schemaVersion": version,
        "workflow": {
            "specification": {"tasks": list(tasks), "files": files},
            "execution": {"makespanInSeconds": 5.5, "executedAt": "2026-01-01T00:00:00Z", "tasks": execution},
        },
    }


DIAMOND = document(
    task("d", "b", "c"), task("b", "a", reads=("x",)), task("c", "a", reads=("x",)), task("a", writes=("x",)), x=1000
)


@pytest.mark.parametrize("version", ["1.5", "1.6", 1.5])
def test_reads_what_is_of_use(read: Read, version: Any) -> None:
    trace = read({**DIAMOND, "schemaVersion": version})
    assert (trace.name, trace.version, trace.makespan) == ("small", str(version), 5.5)
    assert trace.sizes == {"x": 1000}
    assert trace.tasks[0] == TracedTask("a", "step_a", (), 2.0, 2, (), ("x",))
    assert trace.dependencies == 4
    assert trace.critical_path == 6.0


def test_tasks_stand_after_their_parents(read: Read) -> None:
    assert [one.id for one in read(DIAMOND).tasks] == ["a", "b", "c", "d"]


def test_a_dependency_may_be_told_by_the_parent_only(read: Read) -> None:
    first = task("a") | {"children": ["b"]}
    assert read(document(task("b"), first)).tasks[1].parents == ("a",)


def test_a_trace_without_execution_has_empty_tasks(read: Read) -> None:
    plain = {"schemaVersion": "1.5", "workflow": {"specification": {"tasks": [task("a", reads=("x",))]}}}
    trace = read(plain)
    assert (trace.tasks[0].seconds, trace.tasks[0].cores, trace.sizes) == (0.0, 1, {"x": 0})


def test_long_chain_needs_no_recursion(read: Read) -> None:
    names = [str(number) for number in range(20_000)]
    trace = read(document(task("0"), *(task(name, before) for before, name in pairwise(names))))
    assert trace.critical_path == 40_000


# -- the shape before 1.5 --------------------------------------------------------------------------------------------


def earlier(version: str, *tasks: dict[str, Any], key: str = "tasks") -> dict[str, Any]:
    return {"name": "old", "schemaVersion": version, "workflow": {key: list(tasks), "makespan": 7}}


def file(name: str, link: str, **size: int) -> dict[str, Any]:
    return {"name": name, "link": link, **size}


@pytest.mark.parametrize(
    ("version", "runtime", "size"), [("1.3", "runtime", "size"), ("1.4", "runtimeInSeconds", "sizeInBytes")]
)
def test_reads_earlier_versions(read: Read, version: str, runtime: str, size: str) -> None:
    first = {"name": "split_ID01", "id": "ID01", "files": [file("x", "output", **{size: 10})], runtime: 3, "cores": 4}
    second = {"name": "fit_ID02", "id": "ID02", "parents": ["split_ID01"], "files": [file("x", "input", **{size: 10})]}
    trace = read(earlier(version, second, first))
    assert trace.tasks == (
        TracedTask("split_ID01", "split_ID01", (), 3.0, 4, (), ("x",)),
        TracedTask("fit_ID02", "fit_ID02", ("split_ID01",), 0.0, 1, ("x",), ()),
    )
    assert (trace.makespan, trace.sizes) == (7.0, {"x": 10})


def test_tasks_were_jobs_once(read: Read) -> None:
    assert len(read(earlier("1.1", {"name": "a"}, {"name": "b", "parents": ["a"]}, key="jobs")).tasks) == 2


def test_files_tell_the_parents_of_tasks_that_name_none(read: Read) -> None:
    made = [{"name": name, "files": [file(name, "output")]} for name in ("hello", "world")]
    joined = {"name": "both", "files": [file("hello", "input"), file("world", "input")]}
    trace = read({"workflow": {"tasks": [joined, *made]}})  # as small examples come: not even a version
    assert trace.tasks[-1].parents == ("hello", "world")


def test_equal_names_are_told_apart_by_ids(read: Read) -> None:
    trace = read(earlier("1.4", {"name": "fit", "id": "1"}, {"name": "fit", "id": "2", "parents": ["1"]}))
    assert [(one.id, one.parents) for one in trace.tasks] == [("fit_1", ()), ("fit_2", ("fit_1",))]


# -- what may be wrong -----------------------------------------------------------------------------------------------


def without_execution(of: str) -> dict[str, Any]:
    changed = document(task("a"), task("b", "a"))
    entries = changed["workflow"]["execution"]["tasks"]
    changed["workflow"]["execution"]["tasks"] = [one for one in entries if one["id"] != of]
    return changed


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (b"not json", "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"", "it is no JSON"),
        ([], "it has no object `workflow`"),
        ({"workflow": {}}, "neither `workflow.specification` nor `workflow.tasks`"),
        ({"workflow": {"specification": {}}}, "missing required field `tasks` - at `$.workflow.specification`"),
        ({**DIAMOND, "schemaVersion": "9.9"}, "schemaVersion is 9.9, which is unknown here"),
        (document(), "it has no tasks"),
        (document(task("a", "ghost")), "task 'a' names the parent 'ghost', which is not among the tasks"),
        (document(task("a") | {"children": ["ghost"]}), "task 'a' names the child 'ghost'"),
        (document(task("a", reads=("x",))), "task 'a' reads the file 'x', which is missing"),
        (document(task("a", writes=("x",))), "task 'a' writes the file 'x', which is missing"),
        (document(task("a"), task("a")), "there are two tasks 'a'"),
        (without_execution(of="b"), "task 'b' of workflow.specification.tasks is missing in workflow.execution.tasks"),
        (document(task("a"), seconds=-1), "a: runtimeInSeconds is -1"),
        (document(task("a"), seconds="long"), "Expected `float | null`, got `str` - at `$.workflow.execution.tasks[0]"),  # type: ignore[arg-type]
        (document(task("a"), x=-5), "x: sizeInBytes is -5"),
    ],
)
def test_refuses_what_it_cannot_replay(read: Read, broken: Any, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(broken)
    assert "trace.json: " in raised.value.message
    assert said in raised.value.message
    assert raised.value.hint


def test_names_the_tasks_of_a_cycle(read: Read) -> None:
    with pytest.raises(CycleError, match="in a cycle: b -> c -> d -> b\n") as raised:
        read(document(task("a"), task("b", "a", "d"), task("c", "b"), task("d", "c"), task("e", "d")))
    assert "remove one" in raised.value.hint


def test_a_task_that_waits_for_itself_is_a_cycle(read: Read) -> None:
    with pytest.raises(CycleError, match="a -> a"):
        read(document(task("a", "a")))


def test_a_long_cycle_is_named_in_short(read: Read) -> None:
    names = [f"t{number}" for number in range(1000)]
    with pytest.raises(CycleError) as raised:
        read(document(*(task(name, before) for before, name in pairwise([names[-1], *names]))))
    assert len(raised.value.message) < 300
    assert "…" in raised.value.message


def test_a_folder_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        Trace.read(tmp_path)


def test_kinds_are_names_without_numbers() -> None:
    kinds = [TracedTask("", name).kind for name in ("mProject_ID0000001", "fit_00000012", "fit", "7", "a.b-3")]
    assert kinds == ["mProject", "fit", "fit", "7", "a.b"]
