"""Jobs, queues and nodes as qstat and pbsnodes print them: tables, records of wrapped lines, JSON."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

from tests.testbed.fake.pbs.job import ACTIVE, SERVER, Job, Node
from tests.testbed.fake.pbs.submission import OF_THE_SITE, QUEUE

VERSION = "23.06.06"
_WIDTH = 79
_USER = "root"
_JOBS_HEAD = """\
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
"""
_QUEUES_HEAD = """\
Queue              Max   Tot Ena Str   Que   Run   Hld   Wat   Trn   Ext Type
---------------- ----- ----- --- --- ----- ----- ----- ----- ----- ----- ----
"""


def table(jobs: Iterable[Job]) -> str:
    """As plain qstat prints them."""
    lines = []
    for job in jobs:
        used = "00:00:00" if job.state in "EF" and job.places else "0"
        lines.append(f"{job.id:<17.17} {job.name:<16.16} {_USER:<16} {used:>9} {job.state} {QUEUE:<16}\n")
    return _JOBS_HEAD + "".join(lines) if lines else ""


def records(jobs: Iterable[Job]) -> str:
    """As qstat -f prints them."""
    return "".join(f"Job Id: {job.id}\n{_lines(attributes(job))}\n" for job in jobs)


def as_json(jobs: Iterable[Job]) -> str:
    """As qstat -f -F json prints them."""
    return _json("Jobs", {job.id: attributes(job) for job in jobs})


def queues(jobs: Iterable[Job], full: bool) -> str:
    """As qstat -Q prints them, or qstat -Q -f."""
    states = [job.state for job in jobs if job.state != "F"]
    names = {"Transit": "T", "Queued": "Q", "Held": "H", "Waiting": "W", "Running": "R", "Exiting": "E", "Begun": "B"}
    counts = {name: states.count(letter) for name, letter in names.items()}
    if not full:
        shown = (counts[name] for name in ("Queued", "Running", "Held", "Waiting", "Transit", "Exiting"))
        row = f"{QUEUE:<16} {0:>5} {len(states):>5} yes yes" + "".join(f" {count:>5}" for count in shown)
        return f"{_QUEUES_HEAD}{row} Exe*\n"
    record = {
        "queue_type": "Execution",
        "total_jobs": len(states),
        "state_count": "".join(f"{name}:{count} " for name, count in counts.items()),
        "enabled": "True",
        "started": "True",
    }
    return f"Queue: {QUEUE}\n{_lines(record)}\n"


def nodes(nodes: Iterable[Node], jobs: Iterable[Job], in_json: bool) -> str:
    """As pbsnodes -a prints them."""
    running = [job for job in jobs if job.state in ACTIVE]
    found = {node.name: _node(node, [job for job in running if node.name in job.hosts], in_json) for node in nodes}
    if in_json:
        return _json("nodes", found)
    return "".join(f"{name}\n{_lines(record, indent=5)}\n" for name, record in found.items())


def attributes(job: Job) -> dict[str, Any]:
    """All that qstat -f says about a job, in PBS's order."""
    asked = job.asked
    found: dict[str, Any] = {"Job_Name": job.name, "Job_Owner": f"{_USER}@{SERVER}"}
    if job.ended and job.places:
        found["resources_used"] = {
            "cpupercent": 0,
            "cput": "00:00:00",
            "mem": "0kb",
            "ncpus": job.total("ncpus"),
            "vmem": "0kb",
            "walltime": clock(job.ended - (job.started or job.ended)),
        }
    found |= {"job_state": job.state, "queue": QUEUE, "server": SERVER, "Checkpoint": "u", "ctime": date(job.created)}
    if "depend" in asked.attributes:
        found["depend"] = ",".join(f"{part}@{SERVER}" for part in asked.attributes["depend"].split(","))
    found["Error_Path"] = f"{SERVER}:{output(job, 'e')}"
    if job.places:
        found |= {"exec_host": exec_host(job), "exec_vnode": exec_vnode(job)}
    found |= {
        "Hold_Types": job.hold,
        "Join_Path": asked.options.get("j", "n"),
        "Keep_Files": "n",
        "Mail_Points": "a",
        "mtime": date(job.changed),
        "Output_Path": f"{SERVER}:{output(job, 'o')}",
        "Priority": int(asked.options.get("p", 0)),
        "qtime": date(job.created),
        "Rerunable": str(job.rerunable),
        "Resource_List": _resources(job),
        "schedselect": asked.select,
    }
    times = {"stime": job.started, "obittime": job.ended if job.places else None}
    found |= {key: date(value) for key, value in times.items() if value}
    if job.sessions:
        found |= {"session_id": job.sessions[0].pid, "jobdir": asked.environment["HOME"]}
    found |= {"substate": job.substate, "Variable_List": variables(job), "euser": _USER, "egroup": _USER}
    found |= {"hashname": job.id, "queue_rank": int(job.created * 1e6), "queue_type": "E"}
    found |= {"comment": job.comment} if job.comment else {}
    found |= {"etime": date(job.eligible)} if job.eligible else {}
    found |= {"run_count": job.runs} if job.runs else {}
    found |= {"Stageout_status": 1, "Exit_status": job.status} if job.status is not None else {}
    found["Submit_arguments"] = shlex.join(asked.arguments).replace("'", "")
    if asked.command:
        found["executable"] = f"<jsdl-hpcpa:Executable>{escape(asked.command[0])}</jsdl-hpcpa:Executable>"
        words = (f"<jsdl-hpcpa:Argument>{escape(word)}</jsdl-hpcpa:Argument>" for word in asked.command[1:])
        found |= {"argument_list": "".join(words)} if asked.command[1:] else {}
    if job.members:
        left = [member for member in job.members if member.state != "F"]
        states = [member.state for member in job.members]
        counted = {"Queued": "Q", "Running": "R", "Exiting": "E", "Expired": "X"}
        found["array"] = "True"
        found["array_state_count"] = "".join(f"{name}:{states.count(key)} " for name, key in counted.items())
        found["array_indices_submitted"] = asked.options["J"]
        found["array_indices_remaining"] = ",".join(str(member.index) for member in left) or "-"
    if job.index is not None:
        found |= {"array_id": f"{job.number}[].{SERVER}", "array_index": job.index}
    found |= {"history_timestamp": int(job.ended)} if job.ended and job.state == "F" else {}
    found["project"] = asked.options.get("P", "_pbs_project_default")
    found |= {"Account_Name": asked.options["A"]} if "A" in asked.options else {}
    found |= {"run_version": job.runs} if job.runs else {}
    return {**found, "Submit_Host": SERVER}


def output(job: Job, stream: str) -> str:
    """Where the user wants an output (o) or the errors (e): a folder ends with a slash."""
    asked = job.asked
    if stream in asked.options:
        path = asked.options[stream].rpartition(":")[2]
        return path if path.startswith("/") else f"{asked.folder}/{path}"
    index = "" if job.index is None and not job.members else f".{'^array_index^' if job.index is None else job.index}"
    return f"{asked.folder}/{job.name}.{stream}{job.number}{index}"


def variables(job: Job) -> dict[str, str]:
    """What PBS notes of the environment that a job was submitted in."""
    seen = job.asked.environment
    own = {
        "PBS_O_HOME": seen.get("HOME", "/root"),
        "PBS_O_LANG": seen.get("LANG", "C.UTF-8"),
        "PBS_O_PATH": seen.get("PATH", ""),
        "PBS_O_SHELL": seen.get("SHELL", "/bin/bash"),
        "PBS_O_INTERACTIVE_AUTH_METHOD": "resvport",
        "PBS_O_INTERACTIVE_ENCRYPT_METHOD": "",
        "PBS_O_WORKDIR": job.asked.folder,
        "PBS_O_SYSTEM": "Linux",
        "PBS_O_QUEUE": QUEUE,
        "PBS_O_HOST": SERVER,
    }
    options = job.asked.options
    given = dict(seen) if "V" in options else {}
    for part in options["v"].split(",") if "v" in options else ():
        name, equals, value = part.partition("=")
        given[name] = value if equals else seen.get(name, "")
    return given | own


def exec_host(job: Job) -> str:
    """ "n1/0*2+n2/0*2": the second number is that of CPUs."""
    return "+".join(
        f"{host}/{slot}" + (f"*{need['ncpus']}" if need.get("ncpus", 1) != 1 else "")
        for (host, need), slot in zip(job.places, job.slots, strict=True)
    )


def exec_vnode(job: Job) -> str:
    """ "(n1:ncpus=2:mem=102400kb)+(n2:ncpus=2:mem=102400kb)"."""
    return "+".join(f"({':'.join([host, *_amounts(need)])})" for host, need in job.places)


def date(at: float) -> str:
    """As PBS prints a time, which is that of the machine."""
    return datetime.fromtimestamp(at).strftime("%a %b %d %H:%M:%S %Y")


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _resources(job: Job) -> dict[str, Any]:
    asked = job.asked
    found: dict[str, Any] = {}
    if memory := job.total("mem"):
        found["mem"] = f"{memory // 2**20}mb" if memory % 2**20 == 0 else f"{memory // 2**10}kb"
    found["ncpus"] = job.total("ncpus")
    found |= {"ngpus": gpus} if (gpus := job.total("ngpus")) else {}
    found |= {"nodect": len(asked.chunks), "place": asked.place, "select": asked.resources.get("select", asked.select)}
    found |= {"walltime": clock(asked.walltime)} if asked.walltime is not None else {}
    found |= {name: asked.resources[name] for name in OF_THE_SITE if name in asked.resources}
    return found


def _amounts(need: Mapping[str, int]) -> list[str]:
    return [f"{name}={value // 1024}kb" if name == "mem" else f"{name}={value}" for name, value in need.items()]


def _node(node: Node, jobs: list[Job], in_json: bool) -> dict[str, Any]:
    taken = dict.fromkeys(node.available, 0)
    for need in (need for job in jobs for host, need in job.places if host == node.name):
        taken = {name: amount + need.get(name, 0) for name, amount in taken.items()}
    state = "job-busy" if taken["ncpus"] >= node.available["ncpus"] else "free"
    state = ",".join(name for name, is_so in (("down", not node.mom), ("offline", node.offline)) if is_so) or state
    found: dict[str, Any] = {"Mom": node.name, "Port": 15002, "pbs_version": VERSION, "ntype": "PBS", "state": state}
    found["pcpus"] = 2
    if jobs:
        slots = {job.id: job.slots[[host for host, _ in job.places].index(node.name)] for job in jobs}
        found["jobs"] = list(slots) if in_json else ", ".join(f"{id}/{slot}" for id, slot in slots.items())
    has = {**node.available, "mem": f"{node.available['mem'] // 2**30}gb"}
    found["resources_available"] = {"arch": "linux", "host": node.name, **has, "vnode": node.name}
    found["resources_assigned"] = {**taken, "mem": f"{taken['mem'] // 1024}kb"}
    found |= {"resv_enable": "True", "sharing": "default_shared", "license": "l"}
    times = {"last_state_change_time": node.changed, "last_used_time": node.used}
    return found | {key: int(at) if in_json else date(at) for key, at in times.items() if at}


def _json(kind: str, found: dict[str, Any]) -> str:
    head = {"timestamp": int(time.time()), "pbs_version": VERSION, "pbs_server": SERVER}
    return json.dumps({**head, kind: found}, indent="\t", separators=(",", ":\t")) + "\n"


def _lines(record: Mapping[str, Any], indent: int = 4) -> str:
    lines = []
    for key, value in record.items():
        if key == "Variable_List":
            lines.append(f"{key} = " + ",".join(f"{name}={text}" for name, text in value.items()))
        elif isinstance(value, Mapping):
            lines += [f"{key}.{name} = {text}" for name, text in value.items()]
        else:
            lines.append(f"{key} = {value}")
    return "".join(_wrap(" " * indent + line) + "\n" for line in lines)


def _wrap(line: str) -> str:
    """Lines of at most 79 signs, cut behind a comma where there is one; what goes on begins with a tab."""
    done = []
    while len(line) > _WIDTH:
        comma = line.rfind(",", 8, _WIDTH)
        at = comma + 1 if comma > 0 else _WIDTH
        done.append(line[:at])
        line = "\t" + line[at:]
    return "\n".join([*done, line])
