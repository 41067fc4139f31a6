"""Parsl: apps that return futures, on threads or on its high-throughput executor."""

from functools import cache
from typing import Any, ClassVar

from bench import function
from bench.adapter import Adapter


class ParslThreads(Adapter):
    environment = "parsl"
    requirements = ("parsl==2026.10.26",)
    imports = "import parsl"
    limits: ClassVar = {"noop_100k": 10_000, "queued": 10_000, "map": 10_000}
    logging = True

    def start(self):
        import parsl

        self.kernel = parsl.load(
            parsl.Config(
                executors=[self.executor()],
                strategy="none",
                run_dir=str(self.folder / "runinfo"),
                usage_tracking=0,
                initialize_logging=self.logging,
            )
        )
        self.python_app = cache(parsl.python_app)
        self.bash_app = cache(parsl.bash_app)

    def executor(self):
        from parsl.executors import ThreadPoolExecutor

        return ThreadPoolExecutor(max_threads=self.workers)

    def submit(self, task, *args):
        return self.python_app(task)(*args)

    def commands(self, command, count):
        run = self.bash_app(function.command_line)
        return self.gather([run(command) for _ in range(count)]).count(0)

    def stop(self):
        self.kernel.cleanup()


class ParslHtex(ParslThreads):
    """The high-throughput executor as its documentation configures it for one machine."""

    options: ClassVar[dict[str, Any]] = {}

    def executor(self):
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        return HighThroughputExecutor(
            label="htex",
            address="127.0.0.1",
            cores_per_worker=1,
            max_workers_per_node=self.workers,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
            **self.options,
        )

    def script(self, script):
        return self.program("python", str(script))

    def parsl_perf(self, config, tasks):
        return self.program("parsl-perf", "--config", str(config), "--iterate", f"10,{tasks}")


class ParslSlurm(ParslThreads):
    """The high-throughput executor on the nodes of a batch job."""

    cluster = True

    def executor(self):
        from parsl.addresses import address_by_interface
        from parsl.executors import HighThroughputExecutor
        from parsl.launchers import SrunLauncher
        from parsl.providers import SlurmProvider

        return HighThroughputExecutor(
            label="htex",
            address=address_by_interface("eth0"),
            cores_per_worker=1,
            max_workers_per_node=1,
            provider=SlurmProvider(
                partition="batch",
                nodes_per_block=self.workers,
                init_blocks=1,
                max_blocks=1,
                walltime="00:30:00",
                launcher=SrunLauncher(),
            ),
        )


class ParslHtexQuiet(ParslHtex):
    """Tuned: no log files, tasks fetched ahead, messages not encrypted."""

    logging = False
    script, parsl_perf = Adapter.script, Adapter.parsl_perf  # these bring their own configuration
    options: ClassVar[dict[str, Any]] = {"prefetch_capacity": 64, "encrypted": False}
