"""What is known of a machine before anything runs there: a `Site`, from TOML, checked.

Where such files lie and what overrides what is `catalog`'s; asking the scheduler is `detect`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

from heald.core.errors import ConfigurationError, UsageError
from heald.core.quantity import amount
from heald.core.resources import seconds, size

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")  # a key that TOML takes without quotes
_NO_LIMIT = timedelta(0)

T = TypeVar("T", bound=msgspec.Struct)


class NodeShape(msgspec.Struct, frozen=True, repr_omit_defaults=True, omit_defaults=True):
    """One node: `cores` that jobs may use, in `numa` domains; `gpus` devices of a vendor (`gpu`: nvidia, amd, intel);
    `memory` in bytes. 0 and empty: not known.
    """

    cores: int = 0
    numa: int = 0
    gpus: int = 0
    gpu: str = ""
    memory: int = 0

    @property
    def words(self) -> str:
        """What it is, in short.

        >>> NodeShape(cores=32, gpus=4, gpu="nvidia", memory=512 * 10**9).words
        '32 cores, 4 nvidia GPUs, 512 GB'
        """
        counts = [f"{self.cores} cores"] if self.cores else []
        counts += [" ".join(filter(None, (str(self.gpus), self.gpu, "GPUs")))] if self.gpus else []
        return ", ".join([*counts, *([amount(self.memory)] if self.memory else [])])


class Limits(msgspec.Struct, frozen=True, repr_omit_defaults=True, omit_defaults=True):
    """What one queue gives one job: `fewest` to `nodes` nodes, up to `walltime`; and how many `jobs` a user may have in
    it. 0: no limit that is known.
    """

    nodes: int = 0
    fewest: int = 0
    walltime: timedelta = _NO_LIMIT
    jobs: int = 0


class Site(msgspec.Struct, frozen=True, repr_omit_defaults=True, omit_defaults=True):
    """A machine and how to use it. All but `name` may be left out.

    `scheduler`: local, ssh, slurm, pbs, flux, lsf, gridengine, or one that a package adds. `launcher`: what starts one
    process per node, `mpi`: what starts MPI programs (see `launcher`); empty for the scheduler's own. `account`,
    `queue` (Slurm: the partition), `qos`, `constraint` (Grid Engine: the parallel environment): as the scheduler has
    them. `exclusive`: whole nodes, where there is such a thing. `node`: their shape. `queues`: limits by queue, or by
    QOS where users choose by that. `hosts`: the machines of an `ssh` site, in order.

    `modules` are loaded and `setup` lines run in the job's shell before anything else, `variables` set. `python`: the
    interpreter on the nodes; empty for this one. `scratch`: folder on a file system that all nodes see; may name
    variables. `filesystems`: what a job says it needs mounted. `interface`: network between the nodes. `directives`:
    further words for the scheduler, one option a line, as they are.

    `login`: the host, as ssh knows it, behind which all of this is; empty when it is here. No file system is shared
    with such a site: `folder` is where runs keep there what their agents need, by default ~/.local/state/heald.

    >>> site = Site("mine", scheduler="slurm", queue="batch", queues={"batch": Limits(nodes=16)})
    >>> site.limits.nodes
    16
    >>> site
    Site(name='mine', scheduler='slurm', queue='batch', queues={'batch': Limits(nodes=16)})
    """

    name: str
    scheduler: str = "local"
    launcher: str = ""
    mpi: str = ""
    account: str = ""
    queue: str = ""
    qos: str = ""
    constraint: str = ""
    exclusive: bool = True
    hosts: tuple[str, ...] = ()
    interface: str = ""
    python: str = ""
    scratch: str = ""
    filesystems: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    variables: dict[str, str] = {}
    directives: tuple[str, ...] = ()
    login: str = ""
    folder: str = ""
    node: NodeShape = NodeShape()
    queues: dict[str, Limits] = {}

    @property
    def limits(self) -> Limits:
        """Limits of the queue, or the QOS, that jobs go to."""
        return self.queues.get(self.queue) or self.queues.get(self.qos) or Limits()


def site(table: Mapping[str, Any], source: str) -> Site:
    """A Site from a table as TOML has it; sizes and durations may be text. `source` names it in errors.

    >>> site({"name": "mine", "node": {"memory": "512GB"}}, "mine.toml").node.memory
    512000000000

    Raises ConfigurationError for a key that there is not, naming the nearest, and for a value that cannot be.
    """
    return _record(Site, table, source, "")


def _record(kind: type[T], table: Any, source: str, path: str) -> T:
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{source}: {path} must be a table, not {table!r}")
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            near = get_close_matches(key, fields, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
            raise ConfigurationError(f"{source}: there is no key {_joined(path, key)}", hint=hint)
        found[key] = _value(key, value, source, _joined(path, key))
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        said = str(error).replace(" - at `$", f" - at `{path}").replace("`.", "`")
        raise ConfigurationError(f"{source}: {said}") from error


def _value(key: str, value: Any, source: str, path: str) -> Any:
    try:
        if key == "memory":
            return size(value)
        if key == "walltime":
            return timedelta(seconds=seconds(value))
    except UsageError as error:
        raise ConfigurationError(f"{source}: {path}: {error.message}", hint=error.hint) from error
    if key == "node":
        return _record(NodeShape, value, source, path)
    if key == "queues" and isinstance(value, Mapping):
        return {name: _record(Limits, limits, source, f"{path}.{name}") for name, limits in value.items()}
    return value


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def toml(site: Site) -> str:
    """The TOML that gives this Site again; what is as by default is left out.

    >>> print(toml(Site("mine", queue="batch", node=NodeShape(cores=64, memory=512 * 2**30))))
    name = "mine"
    queue = "batch"
    <BLANKLINE>
    [node]
    cores = 64
    memory = "512GiB"
    """
    plain = {key: value for key, value in _changed(site).items() if key not in ("node", "queues", "variables")}
    blocks = [_block("", plain), _block("node", _changed(site.node)), _block("variables", site.variables)]
    queues = [(f"queues.{_key(name)}", limits) for name, limits in site.queues.items()]
    blocks += [_block(title, _changed(limits)) or f"[{title}]" for title, limits in queues]
    return "\n\n".join(filter(None, blocks))


def _changed(record: msgspec.Struct) -> dict[str, Any]:
    """The fields that are not as by default."""
    fields = msgspec.structs.fields(type(record))
    values = {field.name: getattr(record, field.name) for field in fields}
    return {field.name: values[field.name] for field in fields if values[field.name] not in (field.default, {})}


def _block(title: str, table: Mapping[str, Any]) -> str:
    lines = [f"{_key(key)} = {_text(key, value)}" for key, value in table.items()]
    return "\n".join([f"[{title}]", *lines] if title and lines else lines)


def _key(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


def _text(key: str, value: Any) -> str:
    if isinstance(value, timedelta):
        whole = round(value.total_seconds())
        unit, name = next((unit, name) for unit, name in ((3600, "h"), (60, "m"), (1, "s")) if not whole % unit)
        return json.dumps(f"{whole // unit}{name}")
    if key == "memory":
        for unit, name in ((2**30, "GiB"), (10**9, "GB"), (2**20, "MiB"), (10**6, "MB")):
            if not value % unit:
                return json.dumps(f"{value // unit}{name}")
    # JSON's strings, numbers, booleans and lists of them mean the same to TOML, but for the sign DEL
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False).replace("\x7f", "\\u007f")
