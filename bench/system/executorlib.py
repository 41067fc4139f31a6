"""executorlib: `concurrent.futures` for HPC, with dependencies of its own, on workers that stay."""

from typing import ClassVar

from bench.adapter import Adapter


class Executorlib(Adapter):
    environment = "executorlib"
    requirements = ("executorlib==1.11.0",)
    imports = "from executorlib import SingleNodeExecutor"
    limits: ClassVar = {"noop_100k": 10_000, "layered": 2_000, "queued": 10_000, "map": 10_000}

    def start(self):
        from executorlib import SingleNodeExecutor

        self.executor = SingleNodeExecutor(max_workers=self.workers, hostname_localhost=True, block_allocation=True)

    def submit(self, task, *args):
        return self.executor.submit(task, *args)

    def stop(self):
        self.executor.shutdown()
