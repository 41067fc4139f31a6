"""Dask distributed: a scheduler and worker processes on this machine."""

import logging
from typing import ClassVar

from bench.adapter import Adapter


class Dask(Adapter):
    environment = "distributed"
    requirements = ("distributed==2026.8.0", "dask==2026.8.0")
    imports = "from dask.distributed import Client, LocalCluster"
    limits: ClassVar = {"noop_100k": 10_000, "queued": 10_000, "map": 10_000}

    def start(self):
        from dask.distributed import Client, LocalCluster

        logging.getLogger("distributed").setLevel(logging.ERROR)
        self.cluster = LocalCluster(n_workers=self.workers, threads_per_worker=1, dashboard_address=None)
        self.client = Client(self.cluster)

    def submit(self, task, *args):
        return self.client.submit(task, *args, pure=False)

    def gather(self, handles):
        return self.client.gather(handles)

    def share(self, value):
        return self.client.scatter(value, broadcast=True)

    def map(self, task, values):
        return iter(self.client.gather(self.client.map(task, values, pure=False)))

    def stop(self):
        self.client.close()
        self.cluster.close()


class DaskSlurm(Dask):
    """dask-jobqueue: each worker is a batch job of its own, here with the whole of a node."""

    cluster = True
    environment = "dask-jobqueue"
    requirements = ("dask-jobqueue==0.9.0", "cryptography==47.0.0", *Dask.requirements)  # that for the certificates
    imports = "from dask_jobqueue import SLURMCluster"
    cores_of_a_node = 4

    def security(self):
        """What `SLURMCluster` is told of encryption: by default there is none."""
        return {}

    def start(self):
        from dask.distributed import Client
        from dask_jobqueue import SLURMCluster

        logging.getLogger("distributed").setLevel(logging.ERROR)
        self.cluster = SLURMCluster(
            queue="batch",
            cores=1,
            processes=1,
            memory="2GB",
            job_cpu=self.cores_of_a_node,
            interface="eth0",
            walltime="00:30:00",
            local_directory=str(self.folder),
            log_directory=str(self.folder),
            scheduler_options={"dashboard_address": None},
            worker_extra_args=["--no-dashboard"],
            **self.security(),
        )
        self.cluster.scale(self.workers)
        self.client = Client(self.cluster)

    def warm(self):
        self.client.wait_for_workers(self.workers)
        super().warm()


class DaskSlurmTLS(DaskSlurm):
    """The same with all that goes over the network encrypted, as heald and Parsl have it without being asked."""

    def security(self):
        from distributed.security import Security

        return {
            "protocol": "tls://",
            "security": Security.temporary(),
            "shared_temp_directory": str(self.folder),  # of the certificate
        }
