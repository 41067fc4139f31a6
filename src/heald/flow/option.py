"""The options of a task, as users write them and as records keep them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict

import msgspec

from heald.core.environment import PLAIN, Environment
from heald.core.errors import UsageError
from heald.core.resources import SINGLE, Resources, resources, seconds
from heald.core.retry import KINDS, ONCE, Retry
from heald.core.text import recordable
from heald.run.environment import OPTIONS, environment, texts


class Options(TypedDict, total=False):
    """What `@task(...)` and `.options(...)` take. All have defaults.

    `name`: how people know the task. `cpus`, `gpus`, `memory`, `walltime`, `ranks`, `nodes`, `ranks_per_node`,
    `hosts`, `tasks_per_node`, `notice`: what an attempt needs (see `Resources`). `retries`: a number of retries, or a
    `Retry`. `retry_if`: asked with the failure and the number of the attempt whether to try again; it must be quick.
    `priority`: higher goes first. `executor`: the label of the one to run it. `memo`: keep results, and find them
    again. `tags`: names and values to find the task by. `directory`, `stdout`, `stderr`, `variables`, `modules`,
    `setup`, `python`, `conda`, `container`: see `Environment`; so is `uv`, a file that names packages
    (requirements.txt, pyproject.toml) or a list of them.
    """

    name: str
    cpus: int
    gpus: float
    memory: int | str | None
    walltime: timedelta | float | str | None
    ranks: int
    nodes: int
    ranks_per_node: int
    hosts: str | Sequence[str]
    tasks_per_node: int
    notice: timedelta | float | str | None
    retries: int | Retry
    retry_if: Callable[[Any, int], Any]
    priority: int
    executor: str
    memo: bool
    tags: Mapping[str, str]
    directory: str | os.PathLike[str]
    stdout: str | os.PathLike[str]
    stderr: str | os.PathLike[str]
    variables: Mapping[str, str]
    modules: Sequence[str]
    setup: Sequence[str]
    python: str | os.PathLike[str]
    conda: str | os.PathLike[str]
    uv: str | os.PathLike[str] | Sequence[str]
    container: str | os.PathLike[str]


class Settings(msgspec.Struct, frozen=True):
    """Options, checked."""

    name: str = ""
    resources: Resources = SINGLE
    retry: Retry = ONCE
    retry_if: Callable[[Any, int], Any] | None = None
    priority: int = 0
    executor: str = ""
    memo: bool = False
    tags: tuple[tuple[str, str], ...] = ()
    environment: Environment = PLAIN


_NEEDS = (
    "cpus", "gpus", "memory", "walltime", "ranks", "nodes", "ranks_per_node", "hosts", "tasks_per_node", "notice",
)  # fmt: skip


def settings(given: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """`base` changed by options as users write them. Raises UsageError for what cannot be, at the call.

    >>> settings({"cpus": 2, "retries": 1}).resources.cpus
    2
    """
    base = base or Settings()
    unknown = [name for name in given if name not in Options.__annotations__]
    if unknown:
        import difflib

        known = list(Options.__annotations__)
        near = difflib.get_close_matches(unknown[0], known, 1)
        near += [name for name in known if name not in near and name[:4] == unknown[0][:4]]
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(known)}"
        raise UsageError(f"there is no option {unknown[0]!r}", hint=hint)
    changes: dict[str, Any] = {}
    for name, kind in (("name", str), ("executor", str), ("memo", bool)):
        if name in given:
            if not isinstance(given[name], kind):
                raise UsageError(f"{name}={given[name]!r}: must be {'True or False' if kind is bool else 'text'}")
            changes[name] = recordable(name, given[name]) if kind is str else given[name]
    if "priority" in given:
        if not _is_count(given["priority"], -(2**31)):
            raise UsageError(f"priority={given['priority']!r}: must be a whole number")
        changes["priority"] = given["priority"]
    if any(name in given for name in _NEEDS):
        changes["resources"] = _resources(given, base.resources)
    if "retries" in given:
        changes["retry"] = _retry(given["retries"])
    if "retry_if" in given:
        if not callable(given["retry_if"]):
            raise UsageError("retry_if must be a function of the failure and the number of the attempt")
        changes["retry_if"] = given["retry_if"]
    if "tags" in given:
        changes["tags"] = tuple(sorted(texts("tags", given["tags"]).items()))
    if around := {name: given[name] for name in OPTIONS if name in given}:
        changes["environment"] = environment(around, base.environment)
    return msgspec.structs.replace(base, **changes)


def _resources(given: Mapping[str, Any], base: Resources) -> Resources:
    asked: dict[str, Any] = {name: given[name] for name in _NEEDS if name in given}
    known = {
        "cpus": base.cpus,
        "gpus": base.gpus,
        "memory": base.memory,
        "walltime": base.walltime,
        "nodes": base.nodes,
        "hosts": base.hosts,
        "tasks_per_node": base.tasks_per_node,
        "notice": base.notice,
    }
    if not {"ranks", "ranks_per_node"} & set(asked) and ("nodes" not in asked or base.ranks != base.nodes):
        asked["ranks"] = base.ranks
    return resources(**{**known, **asked})


def _retry(given: Any) -> Retry:
    retry = Retry(limit=given) if isinstance(given, int) and not isinstance(given, bool) else given
    if not isinstance(retry, Retry):
        raise UsageError(f"retries={given!r}: must be a whole number or a Retry")
    for name, count in (("limit", retry.limit), ("lost", retry.lost)):
        if not _is_count(count, 0):
            raise UsageError(f"retries={given!r}: {name} must be a whole number, not negative")
    for name, factor in (("backoff", retry.backoff), ("grow", retry.grow)):
        if not isinstance(factor, int | float) or not 1 <= factor < 1e9:
            raise UsageError(f"retries={given!r}: {name} must be a factor of at least 1")
    kinds = (retry.on,) if isinstance(retry.on, str) else tuple(retry.on)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no class of failure", hint=f"there are {', '.join(KINDS)}")
    return msgspec.structs.replace(retry, on=kinds, delay=seconds(retry.delay), longest=seconds(retry.longest))


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31
