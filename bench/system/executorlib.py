"""executorlib: `concurrent.futures` for HPC, with dependencies of its own, on workers that stay."""

from typing import ClassVar

from bench.system.futures import Futures


class Executorlib(Futures):
    environment = "executorlib"
    requirements = ("executorlib==1.11.0",)
    imports = "from executorlib import SingleNodeExecutor"
    limits: ClassVar = {"noop_100k": 10_000, "layered": 2_000, "queued": 10_000, "map": 10_000}
    after = Futures.submit

    def start(self):
        from executorlib import SingleNodeExecutor

        self.executor = SingleNodeExecutor(max_workers=self.workers, hostname_localhost=True, block_allocation=True)
