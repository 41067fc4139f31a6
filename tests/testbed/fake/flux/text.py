"""Jobs and resources in the user's own format, as Flux writes them: Python's, with a few conversions more."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from tests.testbed.fake.flux.instance import Instance
from tests.testbed.fake.flux.job import Job, f58

JOBS = (
    "{id.f58:>12} {username:<8.8} {name:<10.10} {status_abbrev:>2.2} {ntasks:>6} {nnodes:>6h} "
    "{runtime!F:>8} {nodelist:h}"
)
RESOURCES = "{state:>10} {nnodes:>6} {ncores:>8} {ngpus:>8} {nodelist}"
_HEADINGS = {"id": "JOBID", "status_abbrev": "ST", "username": "USER", "state_single": "S"}
_ABBREVIATIONS = {"COMPLETED": "CD", "FAILED": "F", "CANCELED": "CA", "TIMEOUT": "TO"}
_STATUS = {"DEPEND": "PENDING", "PRIORITY": "PENDING", "SCHED": "PENDING", "RUN": "RUNNING", "CLEANUP": "RUNNING"}
_EMPTY = ("", "0s", "0.0", "0:00:00", "1970-01-01T00:00:00")


class _Formatter(string.Formatter):
    def convert_field(self, value: Any, conversion: str | None) -> Any:
        match conversion:
            case "d":
                return datetime.fromtimestamp(value or 0.0)
            case "D":
                return datetime.fromtimestamp(value).strftime("%FT%T") if value else ""
            case "F":
                return _duration(value) if value != "" else ""
            case "H":
                return str(timedelta(seconds=round(value)))
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, spec: str) -> str:
        if spec.endswith("h"):
            value, spec = "-" if str(value) in _EMPTY else str(value), spec[:-1]
        return str(super().format_field(value, spec))


class _Header(_Formatter):
    """Writes the name of each field, as wide as its values."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        name = field_name.partition(".")[0] if field_name.startswith("id") else field_name
        return _HEADINGS.get(name, name.upper().replace(".", "-")), field_name

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        return value


def table(pattern: str, rows: Iterable[Mapping[str, Any]], header: bool) -> str:
    """Rows in a format of the user's."""
    plain = re.sub(r"\?:|\+(?=[h}])", "", pattern)
    lines = [_Formatter().vformat(plain, (), row) for row in rows]
    return "".join(f"{line}\n" for line in ([_Header().vformat(plain, (), {})] if header else []) + lines)


def job(job: Job, now: float) -> dict[str, Any]:
    """All fields of a job."""
    kind, note = job.exception or ("", "")
    status = _STATUS.get(job.state, job.result)
    over = job.state == "INACTIVE"
    code: int | str = "" if not over else -128 if not job.started else job.status if job.status is not None else 1
    return {
        "id": _Id(job.id, f58=job.id, dec=job.number, plain=f58(job.number)),
        "userid": 0,
        "username": "root",
        "name": job.asked.name,
        "queue": job.asked.queue,
        "state": job.state,
        "state_single": job.state[0],
        "status": status,
        "status_abbrev": {"PENDING": "PD", "RUNNING": "R"}.get(status, _ABBREVIATIONS.get(status, "")),
        "result": job.result,
        "result_abbrev": _ABBREVIATIONS.get(job.result, ""),
        "returncode": code,
        "success": str(job.result == "COMPLETED") if over else "",
        "ntasks": job.asked.slots if job.asked.kind != "batch" else len(job.shares) or job.asked.nodes or 1,
        "nnodes": len(job.shares) or "",
        "nodelist": hostlist(job.hosts),
        "ranks": "",
        "t_submit": job.submitted,
        "t_run": job.started,
        "t_cleanup": job.cleaned,
        "t_inactive": job.ended,
        "runtime": (job.cleaned or now) - job.started if job.started else 0.0,
        "expiration": job.started + job.asked.limit if job.started and job.asked.limit else 0.0,
        "exception": SimpleNamespace(occurred=bool(kind), severity=0 if kind else "", type=kind, note=note),
    }


def resources(instance: Instance, states: list[str], by_state: bool) -> list[dict[str, Any]]:
    """A row for each state of nodes; or, if the format does not show that, one for all."""
    free = instance.free()
    nothing: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
    found = {
        "all": dict(instance.resources),
        "up": {host: instance.resources[host] for host in free},
        "down": {host: has for host, has in instance.resources.items() if host not in free},
        "free": {host: has for host, has in free.items() if has[0]},
        "allocated": {
            host: (instance.resources[host][0] - has[0], instance.resources[host][1] - has[1])
            for host, has in free.items()
            if has[0] != instance.resources[host][0]
        },
    }
    rows = [[state] for state in states] if by_state else [states]
    lines = []
    for names in rows:
        hosts = {host for name in names for host in found[name]}
        has = [found[name].get(host, nothing) for name in names for host in found[name]]
        ordered = [host for host in instance.hosts if host in hosts]
        lines.append(
            {
                "state": names[0],
                "queue": "",
                "propertiesx": "",
                "nnodes": len(ordered),
                "ncores": sum(len(cores) for cores, _ in has),
                "ngpus": sum(len(gpus) for _, gpus in has),
                "nodelist": hostlist(ordered),
                "ranks": ",".join(str(instance.hosts.index(host)) for host in ordered),
            }
        )
    return lines


def hostlist(hosts: list[str]) -> str:
    """ "n[1-2,4]" for n1, n2, n4."""
    numbers = sorted(int(host[1:]) for host in hosts)
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    text = ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
    return f"n{text}" if len(numbers) == 1 else f"n[{text}]" if numbers else ""


class _Id(str):
    """An id that is itself in one form, and has others."""

    def __new__(cls, text: str, **_: Any) -> _Id:
        return super().__new__(cls, text)

    def __init__(self, text: str, f58: str, dec: int, plain: str) -> None:
        self.f58, self.dec, self.f58plain = f58, dec, f"f{plain}"


def _duration(seconds: float) -> str:
    if seconds < 0.001:
        return "0s"
    for unit, size in (("s", 60.0), ("m", 3600.0), ("h", 86400.0)):
        if seconds < size:
            return f"{seconds / (size / (24 if unit == 'h' else 60)):.4g}{unit}"
    return f"{seconds / 86400:.4g}d"
