"""A real Slurm over the hosts: slurmctld on the head, a slurmd on each node, one munged for all.

Timings are those of an impatient site, so that a test sees in seconds what takes minutes elsewhere: a lost node is
down after 6 to 17 s, a job that lost its node is queued again after about 6 s, and what does not end on SIGTERM is
killed after 2 s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.testbed.accounting import Accounting
from tests.testbed.accounting import settings as accounted
from tests.testbed.host import HEAD, LOCAL, Hosts
from tests.testbed.keeper import CGROUPS, TestbedFailed, cgroup, wait_for

CPUS, GPUS, MEMORY = 4, 4, 8000  # of a node; memory in MB
PARTITIONS = ("batch", "urgent", "debug")
_START_SECONDS = 30.0

_CLUSTER = "testbed"
_SETTINGS = {
    "ClusterName": _CLUSTER,
    "SlurmUser": "root",
    "SlurmdUser": "root",
    "AuthType": "auth/munge",
    "CredType": "cred/munge",
    "SlurmctldPort": 6817,
    "SlurmdPort": 6818,
    # Nothing that needs systemd or as many CPUs as the nodes say they have.
    "ProctrackType": "proctrack/linuxproc",
    "JobAcctGatherType": "jobacct_gather/linux",
    "JobAcctGatherFrequency": "task=1",
    "SlurmdParameters": "config_overrides",
    "LaunchParameters": "send_gids",
    "MpiDefault": "pmi2",
    "PrologFlags": "Alloc",
    "SelectType": "select/cons_tres",
    "SelectTypeParameters": "CR_Core_Memory",
    "DefMemPerCPU": 200,  # without it a job takes a whole node's memory
    "GresTypes": "gpu",
    # Quick to react.
    "SchedulerType": "sched/backfill",
    "SchedulerParameters": "batch_sched_delay=0,sched_interval=1,sched_min_interval=1000,bf_interval=1,"
    "bf_resolution=1,default_queue_depth=1000",
    "SlurmctldTimeout": 10,
    "SlurmdTimeout": 6,
    "MessageTimeout": 5,
    "InactiveLimit": 0,
    "KillWait": 2,
    "CompleteWait": 0,
    # A job in `urgent` takes the nodes of one in `batch`, which is queued again.
    "PreemptType": "preempt/partition_prio",
    "PreemptMode": "REQUEUE",
    "ReturnToService": 2,  # a node that was lost serves again as soon as its slurmd answers
    "JobRequeue": 1,
    "MinJobAge": 300,
    "MaxJobCount": 20000,
    "MaxArraySize": 10001,
    "TreeWidth": 64,
    "JobCompType": "jobcomp/filetxt",
}

# A job over its memory ends as OUT_OF_MEMORY, as on most sites; without cgroups it is FAILED.
_MEMORY_BY_CGROUP = {"TaskPlugin": "task/cgroup"}
_MEMORY_BY_POLLING = {"TaskPlugin": "task/none", "JobAcctGatherParams": "OverMemoryKill"}
_CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/run/cgroup
ConstrainRAMSpace=yes
AllowedRAMSpace=100
"""

# Debian's plugin for --mpi=pmix looks for a name that only the development package has, with all of autotools.
_PMIX = "/usr/lib/x86_64-linux-gnu/pmix2/lib"
_MEND_PMIX = (
    f"[ ! -e {_PMIX} ] || "
    f"{{ cp -a {_PMIX} /run/pmix; ln -sf libpmix.so.2 /run/pmix/libpmix.so; mount --bind /run/pmix {_PMIX}; }}"
)


class Slurm:
    """The Slurm of one testbed; its commands work on every host."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.accounting: Accounting | None = None

    @classmethod
    def up(cls, hosts: Hosts, settings: Mapping[str, object] = {}, *, accounting: bool = False) -> Slurm:
        """Start it on hosts that are up, and wait until every node is idle.

        `settings` go over those of slurm.conf. With `accounting`, sacct answers.
        """
        slurm = cls(hosts)
        munge = slurm._folder("munge.socket")
        slurm._configure({**(accounted(munge) if accounting else {}), **settings})
        hosts.spawn(["munged", "--foreground", "--force", *slurm._munge()], "munged.log")
        wait_for(munge.exists, "munged", hosts.folder / "munged.log")
        for host in hosts.names:
            hosts.at_boot(host, f"mount --bind {slurm._folder()} /etc/slurm; {_MEND_PMIX}")
        if accounting:
            slurm.accounting = Accounting(hosts, slurm._folder())
            slurm.accounting.up(_CLUSTER, munge)
        hosts.at_boot(HEAD, "slurmctld")
        for node in hosts.nodes:
            if CGROUPS.is_dir():
                own = cgroup(hosts.folder.name) / node
                hosts.at_boot(node, f"mkdir -p {own} /run/cgroup/memory; mount --bind {own} /run/cgroup/memory")
            hosts.at_boot(node, "slurmd")
        slurm.await_idle()
        return slurm

    def command(self, *words: object, status: int | None = 0) -> str:
        """Run one of Slurm's commands on the head; what it printed."""
        return self.hosts.run(HEAD, words, status=status, folder=Path("/tmp")).stdout

    def submit(self, script: str, *options: str, folder: Path, environment: Mapping[str, str] = {}) -> str:
        """Submit the text of a batch script from `folder`; the job's id."""
        text = script if script.startswith("#!") else f"#!/bin/sh\n{script}\n"
        submit = ["sbatch", "--parsable", *options]
        return self.hosts.run(HEAD, submit, text=text, folder=folder, environment=environment).stdout.strip()

    def state(self, job: str) -> str:
        """The state of a job in Slurm's words: PENDING, RUNNING, COMPLETING, COMPLETED...; empty if it is unknown."""
        query = ["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"]
        return self.command(*query, status=None).strip()

    def await_state(self, job: str, *states: str, patience: float = 30.0) -> str:
        """Wait until a job is in one of the states; which."""
        wait_for(lambda: self.state(job) in states, f"job {job} {' or '.join(states)}", patience=patience)
        return self.state(job)

    def await_idle(self, nodes: Sequence[str] = (), patience: float = _START_SECONDS) -> None:
        """Wait until the nodes (all of them by default) have nothing to do."""
        wanted = set(nodes or self.hosts.nodes)
        log = self._folder("slurmctld.log")
        wait_for(lambda: wanted <= self._idle(), "idle nodes", log, patience=patience)

    def await_saved(self, job: str) -> None:
        """Wait until what slurmctld knows of a job is on disk, which takes up to 5 s: an outage undoes what is not."""
        now, saved = time.time(), self._folder("state", "job_state")
        self.command("scontrol", "update", f"JobId={job}", "Comment=saved")  # it saves only what has changed
        wait_for(lambda: saved.exists() and saved.stat().st_mtime > now, "the saved state of slurmctld")

    def stop_controller(self) -> None:
        """Kill slurmctld, as an outage does: running jobs go on, and every command fails."""
        both = "slurmctld|slurmscriptd"  # the second holds the first's port for a moment longer
        self.hosts.run(HEAD, ["pkill", "-KILL", "-x", both])
        wait_for(lambda: not self._runs(HEAD, both), "the end of slurmctld")

    def start_controller(self) -> None:
        """Start slurmctld again: it knows what it last saved."""
        self.hosts.daemon(HEAD, ["slurmctld"])
        wait_for(lambda: "UP" in self.command("scontrol", "ping", status=None), "slurmctld")

    def stop_node(self, node: str) -> None:
        """Kill a node's slurmd only: its jobs go on, and the controller loses sight of them."""
        self.hosts.run(node, ["pkill", "-KILL", "-x", "slurmd"])

    def start_node(self, node: str) -> None:
        """Start a node's slurmd again."""
        self.hosts.daemon(node, ["slurmd"])

    def close(self, partition: str = "batch") -> None:
        """Let no job of a partition start; they are accepted and wait."""
        self.command("scontrol", "update", f"PartitionName={partition}", "State=DOWN")

    def open(self, partition: str = "batch") -> None:
        """Let the jobs of a partition start again."""
        self.command("scontrol", "update", f"PartitionName={partition}", "State=UP")

    def assert_clean(self) -> None:
        """No job is left and no process of one, or soon none will be; what is left is ended, and all is made whole."""
        self._restore()
        left = ""
        try:
            wait_for(lambda: not self.command("squeue", "--noheader"), "an empty queue", patience=15)
        except TestbedFailed:
            left = self.command("squeue")
            self.command("scancel", "--signal=KILL", "--full", "--user=root", status=None)
            self.command("scancel", "--user=root", status=None)
        try:
            self.hosts.assert_quiet()
            assert not left, f"jobs were left in the queue:\n{left}"
        finally:
            self.await_idle()

    def _restore(self) -> None:
        self.hosts.heal()
        if self.accounting is not None and not self.accounting.runs:
            self.accounting.start()
        if not self._runs(HEAD, "slurmctld"):
            self.start_controller()
        for node in self.hosts.nodes:
            if not self._runs(node, "slurmd"):
                self.start_node(node)
        for partition in PARTITIONS:
            self.open(partition)

    def _runs(self, host: str, daemon: str) -> bool:
        return self.hosts.run(host, ["pgrep", "-x", daemon], status=None).returncode == 0

    def _idle(self) -> set[str]:
        listing = self.command("sinfo", "--noheader", "--Node", "--partition=batch", "--format=%N %T", status=None)
        return {node for node, _, state in (line.partition(" ") for line in listing.splitlines()) if state == "idle"}

    def _folder(self, *parts: str) -> Path:
        return self.hosts.folder.joinpath("slurm", *parts)

    def _munge(self) -> list[str]:
        key = self._folder("munge.key")
        self.hosts.run(HEAD, ["mungekey", "--create", f"--keyfile={key}"])
        own = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        return [f"--{option}={self._folder(f'munge.{name}')}" for option, name in own.items()]

    def _configure(self, settings: Mapping[str, object]) -> None:
        for folder in ("state", "spool", "device"):
            self._folder(folder).mkdir(parents=True)
        own = {
            "SlurmctldHost": HEAD,
            "AuthInfo": f"socket={self._folder('munge.socket')},cred_expire=5",  # as long waits a lost job
            "SlurmctldPidFile": "/run/slurmctld.pid",
            "SlurmdPidFile": "/run/slurmd.pid",
            "SlurmdSpoolDir": self._folder("spool", "%n"),
            "StateSaveLocation": self._folder("state"),
            "SlurmctldLogFile": self._folder("slurmctld.log"),
            "SlurmdLogFile": self._folder("slurmd.%n.log"),
            "JobCompLoc": self._folder("jobs.txt"),
        }
        memory = _MEMORY_BY_CGROUP if CGROUPS.is_dir() else _MEMORY_BY_POLLING
        lines = [f"{key}={value}" for key, value in {**_SETTINGS, **memory, **own, **settings}.items()]
        lines += [
            f"NodeName={node} CPUs={CPUS} RealMemory={MEMORY} Gres=gpu:fake:{GPUS} State=UNKNOWN"
            for node in self.hosts.nodes
        ]
        half = ",".join(self.hosts.nodes[: max(1, len(self.hosts.nodes) // 2)])
        lines += [
            "PartitionName=batch Nodes=ALL Default=YES DefaultTime=10 MaxTime=60 State=UP",
            "PartitionName=urgent Nodes=ALL PriorityTier=10 DefaultTime=10 MaxTime=60 State=UP",
            f"PartitionName=debug Nodes={half} MaxTime=5 MaxNodes=2 State=UP",
        ]
        self._write("slurm.conf", "\n".join(lines) + "\n")
        self._write("mpi.conf", f"PMIxCliTmpDirBase={LOCAL}\n")  # in /tmp, which the hosts share, steps would collide
        self._write("gres.conf", self._gpus())
        self._write("cgroup.conf", _CGROUP_CONF)

    def _gpus(self) -> str:
        """Devices that stand for GPUs: copies of /dev/null do, ordinary files do not."""
        for number in range(GPUS):
            os.mknod(self._folder("device", f"nvidia{number}"), 0o20666, os.makedev(1, 3))
        devices = self._folder("device", f"nvidia[0-{GPUS - 1}]")
        return f"AutoDetect=off\nName=gpu Type=fake Flags=nvidia_gpu_env File={devices}\n"

    def _write(self, name: str, text: str) -> None:
        self._folder(name).write_text(text)
