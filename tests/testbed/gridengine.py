"""A real Grid Engine (Debian's Son of Grid Engine 8.1.9) over the hosts: qmaster on the head, an execd on each node."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.testbed.host import HEAD, Hosts
from tests.testbed.keeper import TestbedFailed, wait_for

SLOTS = 4  # of a node
QUEUE = "batch"
ENVIRONMENTS = {"mpi": "$round_robin", "whole": str(SLOTS)}  # the parallel ones, and how each fills nodes

_ROOT = Path("/var/lib/gridengine")
_CELL = _ROOT / "default"
_SPOOL = Path("/var/spool/gridengine")
_INIT = "/usr/share/gridengine/scripts/init_cluster"
_START_SECONDS = 60.0

# Before the execds start: they fetch the configuration once, and then only every 40 s. Root would be refused otherwise,
# and a queue that heeds the load be closed by what else this machine does. The accounting is written at once.
_CONFIGURE = """
export SGE_SINGLE_LINE=1
admin() { su -s /bin/sh -c "qconf $*" sgeadmin; }
admin -am root
admin -as n0
for node in $nodes; do admin -ah $node; admin -as $node; done
cd /run/local
qconf -sconf global | sed 's/^\\(min_[ug]id\\) .*/\\1 0/
    s/^\\(reporting_params\\) .*/\\1 accounting=true reporting=false flush_time=00:00:01 accounting_flush_time=00:00:00/
    s/^\\(load_report_time\\) .*/\\1 00:00:01/' >global
qconf -Mconf global
printf 'group_name @allhosts\\nhostlist %s\\n' "$nodes" >group
qconf -Ahgrp group
cat >environment <<X
slots 999
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
control_slaves TRUE
job_is_first_task FALSE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
X
for each in $environments; do
    { printf 'pe_name %s\\nallocation_rule %s\\n' "${each%%=*}" "${each#*=}"; cat environment; } >"$each"
    qconf -Ap "$each"
done
qconf -sq | sed "s/^qname .*/qname $queue/; s/^hostlist .*/hostlist @allhosts/; s/^slots .*/slots $slots/
    s/^pe_list .*/pe_list $names/; s/^load_thresholds .*/load_thresholds NONE/; s/^rerun .*/rerun TRUE/
    s#^shell .*#shell /bin/sh#; s/^shell_start_mode .*/shell_start_mode unix_behavior/" >queue
qconf -Aq queue
qconf -ssconf | sed 's/^schedule_interval .*/schedule_interval 0:0:1/
    s/^\\(flush_[a-z]*_sec\\) .*/\\1 1/' >scheduler
qconf -Msconf scheduler
"""


class GridEngine:
    """The Grid Engine of one testbed; its commands work on every host."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts

    @classmethod
    def up(cls, hosts: Hosts) -> GridEngine:
        """Start it on hosts that are up, and wait until every node has told its load."""
        engine = cls(hosts)
        shutil.copytree(_CELL, engine._folder("cell"))
        engine._folder("cell", "common", "act_qmaster").write_text(f"{HEAD}\n")
        for host in hosts.names:
            for part in ("qmaster/job_scripts", "spooldb", "execd"):
                engine._folder("spool", host, part).mkdir(parents=True)
            own = f"mount --bind {engine._folder('spool', host)} {_SPOOL}; chown -R sgeadmin: {_CELL} {_SPOOL}"
            hosts.at_boot(host, f"mount --bind {engine._folder('cell')} {_CELL}; {own}")
        initialise = f"su -s /bin/sh -c '{_INIT} {_ROOT} default {_SPOOL}/spooldb sgeadmin' sgeadmin"
        hosts.run(HEAD, ["sh", "-c", initialise], folder=Path("/"))
        hosts.at_boot(HEAD, "sge_qmaster")
        wait_for(engine._answers, "the qmaster", engine._folder("log"), _START_SECONDS)
        engine._configure()
        for node in hosts.nodes:
            hosts.at_boot(node, "sge_execd &")  # it takes a second to go into the background itself
        wait_for(engine._is_known, "the execds", patience=_START_SECONDS)
        return engine

    def command(self, *words: object, status: int | None = 0) -> str:
        """Run one of Grid Engine's commands on the head; what it printed."""
        return self.hosts.run(HEAD, words, status=status, folder=Path("/tmp")).stdout

    def submit(self, script: str, *options: str, folder: Path, environment: Mapping[str, str] = {}) -> str:
        """Submit the text of a job script from `folder`; the job's id."""
        submit = ["qsub", "-terse", *options]
        said = self.hosts.run(HEAD, submit, text=script + "\n", folder=folder, environment=environment).stdout
        return said.strip().partition(".")[0]

    def state(self, job: str) -> str:
        """The letters of a job's state (qw, hqw, r, dr, Eqw...); empty when it is over or unknown."""
        rows = [line.split() for line in self.command("qstat").splitlines()[2:]]
        return next((row[4] for row in rows if row[0] == job), "")

    def await_state(self, job: str, *states: str, patience: float = 30.0) -> str:
        """Wait until a job is in one of the states; which."""
        wait_for(lambda: self.state(job) in states, f"job {job} {' or '.join(states)}", patience=patience)
        return self.state(job)

    def stop_master(self) -> None:
        """Kill the qmaster: running jobs go on, and every command fails."""
        self.hosts.run(HEAD, ["pkill", "-KILL", "-x", "sge_qmaster"])

    def start_master(self) -> None:
        """Start the qmaster again. The execds look for it every half minute: what it orders before is late or lost."""
        self.hosts.daemon(HEAD, ["sge_qmaster"])
        wait_for(self._answers, "the qmaster", patience=_START_SECONDS)

    def assert_clean(self) -> None:
        """No job is left and no process of one, or soon none will be; what is left is ended, and all is made whole."""
        self.hosts.heal()
        if not self._answers():
            self.start_master()
        left = ""
        try:
            wait_for(lambda: not self.command("qstat"), "an empty queue", patience=10)
        except TestbedFailed:
            left = self.command("qstat")
            self.command("qdel", "-f", "-u", "root", status=None)
        self.hosts.assert_quiet()
        assert not left, f"jobs were left in the queue:\n{left}"

    def _configure(self) -> None:
        values = {
            "nodes": " ".join(self.hosts.nodes),
            "environments": " ".join(f"{name}={rule}" for name, rule in ENVIRONMENTS.items()),
            "names": " ".join(ENVIRONMENTS),
            "queue": QUEUE,
            "slots": str(SLOTS),
        }
        said = self.hosts.run(HEAD, ["sh", "-c", _CONFIGURE], environment=values, folder=Path("/"), status=None)
        self._folder("log").write_text(said.stdout + said.stderr)

    def _answers(self) -> bool:
        return self.hosts.run(HEAD, ["qconf", "-sh"], status=None).returncode == 0

    def _is_known(self) -> bool:
        """Whether every node has told the qmaster its load."""
        rows = [line.split() for line in self.command("qhost", status=None).splitlines()]
        return {row[0] for row in rows if len(row) > 3 and row[3] != "-"} >= set(self.hosts.nodes)

    def _folder(self, *parts: str) -> Path:
        return self.hosts.folder.joinpath("gridengine", *parts)
