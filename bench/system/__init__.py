"""The systems under measurement, in the order of the table."""

from importlib import import_module

from bench.adapter import Adapter

SYSTEMS = {
    "heald": "heald:Heald",
    "heald_journal": "heald:HealdJournal",
    "heald_executor": "heald:HealdExecutor",
    "thread": "futures:Thread",
    "process": "futures:Process",
    "pool": "pool:Pool",
    "loky": "loky:Loky",
    "parsl_threads": "parsl:ParslThreads",
    "parsl_htex": "parsl:ParslHtex",
    "parsl_htex_quiet": "parsl:ParslHtexQuiet",
    "dask": "dask:Dask",
    "ray": "ray:Ray",
    "executorlib": "executorlib:Executorlib",
    "hyperqueue": "hyperqueue:HyperQueue",
    "heald_slurm": "heald:HealdSlurm",
    "parsl_slurm": "parsl:ParslSlurm",
    "dask_slurm": "dask:DaskSlurm",
    "dask_slurm_tls": "dask:DaskSlurmTLS",
    "hyperqueue_hosts": "hyperqueue:HyperQueueHosts",
    "xargs": "shell:Xargs",
    "parallel": "shell:Parallel",
}


def find(name: str) -> type[Adapter]:
    """Give the adapter of a system; importing it imports nothing of the system itself."""
    module, _, adapter = SYSTEMS[name].partition(":")
    return getattr(import_module(f"bench.system.{module}"), adapter)
