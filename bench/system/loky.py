"""loky: the robust process pool under joblib."""

from typing import ClassVar

from bench.system.futures import Futures


class Loky(Futures):
    environment = "loky"
    requirements = ("loky==3.7.0",)
    imports = "from loky import get_reusable_executor"
    limits: ClassVar = {"map": 100_000}

    def start(self):
        from loky import get_reusable_executor

        self.executor = get_reusable_executor(max_workers=self.workers, timeout=300)
