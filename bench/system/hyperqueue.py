"""HyperQueue: a job of tasks with dependencies, each a process of its own; results travel through files."""

import pickle
import sys
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from bench.adapter import Adapter


class Result(NamedTuple):
    """Where a task leaves its result, for the client and for the tasks after it."""

    path: str

    def load(self) -> Any:
        return pickle.loads(Path(self.path).read_bytes())


class HyperQueue(Adapter):
    """Tasks gather in a job, which is submitted when its results are wanted."""

    environment = "hyperqueue"
    requirements = ("hyperqueue==0.27.0", "cloudpickle")
    imports = "from hyperqueue import Job, LocalCluster"
    limits: ClassVar = {**dict.fromkeys(("noop_10k", "noop_100k", "layered", "queued", "map"), 1_000), "trace": 200}

    def start(self):
        from hyperqueue import Job, LocalCluster
        from hyperqueue.cluster import WorkerConfig
        from hyperqueue.task.function import PythonEnv

        self.cluster = LocalCluster(str(self.folder / "server"), WorkerConfig(cores=self.workers))
        self.client = self.cluster.client(python_env=PythonEnv(python_bin=sys.executable))
        self.new_job = lambda: Job(default_workdir=self.folder)
        self.job = self.new_job()
        self.numbers = count()
        self.pending = {}

    def submit(self, task, *args):
        result = Result(str(self.folder / f"{next(self.numbers)}.pickle"))
        parents = [self.pending[value] for value in args if isinstance(value, Result)]
        self.pending[result] = self.job.function(
            leave_result, args=(result, task, args), deps=parents, stdout=None, stderr=None
        )
        return result

    def gather(self, handles):
        self._run()
        return [handle.load() for handle in handles]

    def commands(self, command, count):
        for _ in range(count):
            self.job.program([command], stdout=None, stderr=None)
        self._run()  # it raises if one failed
        return count

    def _run(self):
        job, self.job = self.job, self.new_job()
        self.pending.clear()
        if job.tasks:
            self.client.wait_for_jobs([self.client.submit(job)])

    def stop(self):
        self.cluster.stop()


class HyperQueueHosts(HyperQueue):
    """On the head alone, with as many cores as there are nodes: its Python package has no worker for other hosts."""

    cluster = True


def leave_result(result, task, args):
    """Run the task in a process of its own, with what the tasks before it left."""
    values = [value.load() if isinstance(value, Result) else value for value in args]
    Path(result.path).write_bytes(pickle.dumps(task(*values)))
