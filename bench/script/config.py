"""Where the scripts' apps run, and what parsl-perf measures: this machine, as Parsl's documentation configures it."""

import os

from parsl import Config, HighThroughputExecutor
from parsl.providers import LocalProvider

config = Config(
    executors=[
        HighThroughputExecutor(
            label="htex",
            address="127.0.0.1",
            cores_per_worker=1,
            max_workers_per_node=int(os.environ["WORKERS"]),
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
    ],
    strategy="none",
    usage_tracking=0,
)
