"""heald itself: with its graph, with its journal, and as a bare executor."""

from functools import cache

from bench import ROOT, function
from bench.adapter import Adapter
from bench.system.futures import Futures


class Heald(Adapter):
    environment = "heald"
    requirements = ("-e", str(ROOT))
    imports = "from heald import ProcessExecutor, Session, command, task"
    journal = False

    def start(self):
        import heald

        self.task = cache(heald.task)
        self.command = cache(heald.command)
        self.session = heald.Session(
            executors=[heald.ProcessExecutor(workers=self.workers)],
            journal=self.folder / "run.heald" if self.journal else None,
        )
        self.session.start()

    def submit(self, task, *args):
        return self.task(task).submit(*args)

    def map(self, task, values):
        return self.task(task).map(values).results()

    def commands(self, command, count):
        run = self.command(function.command_line)
        futures = [run.submit([command]) for _ in range(count)]
        return sum(future.exception() is None for future in futures)

    def simulate(self, agents):
        import heald
        from bench.swarm.head import SwarmExecutor

        self.task = cache(heald.task)
        executor = SwarmExecutor(agents)
        self.session = heald.Session(executors=[executor], memo=None, progress=False).start()
        executor.await_all()

    def lines(self, command, values):
        self.program("heald", "run", "-j", str(self.workers), command, ":::", *values)

    def script(self, script):
        return self.program("heald", "run", "--compat", "--quiet", "--journal", f"{script.stem}.heald", str(script))

    def parsl_perf(self, config, tasks):
        return self.program("heald", "compat", "parsl-perf", "--config", str(config), "--iterate", f"10,{tasks}")

    def help(self):
        return self.program("heald", "--help")

    def stop(self):
        self.session.close()


class HealdJournal(Heald):
    """Every event in a file, so that the run can be resumed, and looked at."""

    journal = lists = True

    def listing(self, rows):
        return self.program("heald", "task", "ls", "--run", str(self.folder / "run.heald"), "--limit", str(rows))


class HealdSlurm(Heald):
    """On the nodes of a batch job."""

    cluster = True

    def start(self):
        self._start(self.workers)

    def _start(self, nodes):
        import heald
        from heald.site.profile import Site

        self.task = cache(heald.task)
        self.command = cache(heald.command)
        executor = heald.ClusterExecutor(Site("bench", scheduler="slurm"), nodes=nodes, workers=1, walltime="30m")
        self.session = heald.Session(executors=[executor], memo=None, progress=False).start()

    def pack(self, jobs, nodes):
        self._start(nodes)
        self.task(function.noop).submit(0).result()  # the nodes are there
        # Each node writes down when it began and ended.
        noted = self.folder / "times"
        program = f"date +%s.%N >>{noted}; sleep $0; date +%s.%N >>{noted}"
        run = self.command(function.command_line)
        futures = [
            run.options(nodes=job.nodes, ranks=job.nodes, walltime=job.walltime).submit(
                ["/bin/sh", "-c", program, str(job.seconds)]
            )
            for job in jobs
        ]
        for future in futures:
            future.result()
        times = list(map(float, noted.read_text().split()))
        return max(times) - min(times)


class HealdExecutor(Futures):
    """The executor alone, as any other of `concurrent.futures`."""

    environment = Heald.environment
    requirements = Heald.requirements
    imports = "from heald import ProcessExecutor"

    def start(self):
        from heald import ProcessExecutor

        self.executor = ProcessExecutor(workers=self.workers)
