"""Ray: remote functions and a shared object store."""

import os
from functools import cache
from typing import ClassVar

from bench.adapter import Adapter


class Ray(Adapter):
    environment = "ray"
    requirements = ("ray==2.60.0",)
    imports = "import ray"
    limits: ClassVar = {"noop_100k": 10_000, "queued": 10_000, "map": 10_000}

    def start(self):
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        ray.init(
            num_cpus=self.workers,
            include_dashboard=False,
            logging_level="error",
            log_to_driver=False,
            object_store_memory=2 << 30,
            _temp_dir=str(self.folder),
        )
        self.ray = ray
        self.remote = cache(ray.remote)

    def submit(self, task, *args):
        return self.remote(task).remote(*args)

    def gather(self, handles):
        return self.ray.get(handles)

    def share(self, value):
        return self.ray.put(value)

    def stop(self):
        self.ray.shutdown()
