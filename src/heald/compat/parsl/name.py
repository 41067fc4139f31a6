"""Which of Parsl's modules and names are served, where each lives here, and what to use in place of the others."""

from __future__ import annotations

_HERE = "heald.compat.parsl"

_LAUNCHERS = (
    "AprunLauncher GnuParallelLauncher JsrunLauncher MpiExecLauncher MpiRunLauncher SimpleLauncher SingleNodeLauncher "
    "SrunLauncher SrunMPILauncher WrappedLauncher"
)
# Module here -> its names by the module of Parsl that has them; the root has the commonest again.
_SERVED = {
    "app": {
        "parsl": "bash_app join_app python_app",
        "app.app": "AppBase bash_app join_app python_app",
        "app.python": "PythonApp",
        "app.bash": "BashApp",
    },
    "config": {"parsl": "Config", "config": "Config"},
    "dependency": {
        "dataflow.dependency_resolvers": "DEEP_DEPENDENCY_RESOLVER SHALLOW_DEPENDENCY_RESOLVER DependencyResolver "
        "deep_traverse_to_gather deep_traverse_to_unwrap shallow_traverse_to_gather shallow_traverse_to_unwrap",
    },
    "error": {
        "errors": "ConfigurationError InternalConsistencyError NoDataFlowKernelError OptionalModuleMissing ParslError",
        "app.errors": "AppBadFormatting AppException AppTimeout BadStdStreamFile BashAppNoReturn BashExitFailure "
        "MissingOutputs RemoteExceptionWrapper wrap_error",
        "dataflow.errors": "BadCheckpoint DataFlowException DependencyError JoinError PropagatedException",
        "executors.errors": "BadMessage BadStateException ExecutorError InvalidResourceSpecification ScalingFailed "
        "UnsupportedFeatureError",
        "executors.high_throughput.errors": "ManagerLost VersionMismatch WorkerLost",
        "serialize.errors": "DeserializationError SerializationError",
        "providers.errors": "ExecutionProviderException ScaleOutFailed SchedulerMissingArgs ScriptPathError "
        "SubmitException",
        "launchers.errors": "BadLauncher",
        "jobs.errors": "TooManyJobFailuresError",
        "data_provider.zip": "ZipAuthorityError",
    },
    "executor": {
        "parsl": "ThreadPoolExecutor",
        "executors.base": "ParslExecutor",
        "executors.threads": "ThreadPoolExecutor",
        "executors": "ThreadPoolExecutor",
    },
    "file": {"parsl": "File", "data_provider.files": "File"},
    "future": {"app.futures": "DataFuture", "dataflow.futures": "AppFuture"},
    "high_throughput": {
        "parsl": "HighThroughputExecutor",
        "executors.status_handling": "BlockProviderExecutor",
        "executors.high_throughput.executor": "HighThroughputExecutor",
        "executors.high_throughput.manager_selector": "BlockIdManagerSelector ManagerSelector RandomManagerSelector",
        "executors": "HighThroughputExecutor",
        "jobs.error_handlers": "noop_error_handler simple_error_handler windowed_error_handler",
    },
    "kernel": {
        "parsl": "AUTO_LOGNAME DataFlowKernel DataFlowKernelLoader clear dfk load wait_for_current_tasks",
        "dataflow.dflow": "DataFlowKernel DataFlowKernelLoader",
    },
    "launcher": {
        "launchers": _LAUNCHERS,
        "launchers.base": "Launcher",
        "launchers.launchers": f"Launcher {_LAUNCHERS}",
    },
    "log": {
        "parsl": "set_file_logger set_stream_logger",
        "log_utils": "DEFAULT_FORMAT set_file_logger set_stream_logger",
        "logconfigs.base": "LogConfig",
        "logconfigs.file": "FileLogging",
        "logconfigs.json": "JSONLogging",
        "logconfigs.noop": "NoopLogging",
    },
    "memo": {"dataflow.memoization": "BasicMemoizer Memoizer id_for_memo make_hash"},
    "monitoring": {
        "parsl": "MonitoringHub",
        "monitoring": "MonitoringHub",
        "monitoring.monitoring": "MonitoringHub",
        "monitoring.radios.base": "RadioConfig",
        "monitoring.radios.filesystem": "FilesystemRadio",
        "monitoring.radios.htex": "HTEXRadio",
        "monitoring.radios.multiprocessing": "MultiprocessingQueueRadio",
        "monitoring.radios.udp": "UDPRadio",
    },
    "mpi": {"executors.high_throughput.mpi_executor": "MPIExecutor", "executors": "MPIExecutor"},
    "pool": {"concurrent": "ParslPoolExecutor"},
    "provider": {
        "providers": "GridEngineProvider LSFProvider LocalProvider PBSProProvider SlurmProvider",
        "providers.base": "ExecutionProvider",
        "providers.cluster_provider": "ClusterProvider",
        "providers.grid_engine.grid_engine": "GridEngineProvider",
        "providers.local.local": "LocalProvider",
        "providers.lsf.lsf": "LSFProvider",
        "providers.pbspro.pbspro": "PBSProProvider",
        "providers.slurm.slurm": "SlurmProvider",
        "channels": "LocalChannel",
    },
    "remote": {"app.python": "timeout", "utils": "get_std_fname_mode"},
    "representation": {"utils": "RepresentationMixin"},
    "staging": {
        "data_provider.data_manager": "DataManager default_staging",
        "data_provider.file_noop": "NoOpFileStaging",
        "data_provider.ftp": "FTPInTaskStaging FTPSeparateTaskStaging",
        "data_provider.http": "HTTPInTaskStaging HTTPSeparateTaskStaging",
        "data_provider.rsync": "RSyncStaging",
        "data_provider.staging": "Staging",
        "data_provider.zip": "ZipFileStaging zip_path_split",
    },
    "state": {
        "dataflow.states": "FINAL_FAILURE_STATES FINAL_STATES States",
        "dataflow.taskrecord": "TaskRecord",
        "jobs.states": "JobState JobStatus TERMINAL_STATES",
    },
    "tool": {
        "parsl": "VERSION __version__",
        "addresses": "address_by_hostname address_by_interface address_by_query address_by_route get_all_addresses "
        "get_any_address tcp_url",
        "process_loggers": "wrap_with_logs",
        "utils": "Timer execute_wait get_all_checkpoints get_last_checkpoint sanitize_dns_label_rfc1123 "
        "sanitize_dns_subdomain_rfc1123 time_limited_open",
        "version": "VERSION",
        "usage_tracking.levels": "DISABLED LEVEL_1 LEVEL_2 LEVEL_3",
    },
}

# What to use in place of names and modules of Parsl that are not served.
_INSTEAD = {
    "heald knows Slurm, PBS, LSF and Grid Engine: under others, use LocalProvider inside of the batch job": (
        "CondorProvider TorqueProvider CobaltProvider parsl.providers.condor parsl.providers.torque"
    ),
    "machines of a cloud are not started: use LocalProvider on a machine that runs": (
        "AWSProvider AzureProvider GoogleCloudProvider KubernetesProvider AdHocProvider "
        "parsl.providers.kubernetes parsl.providers.aws parsl.providers.azure parsl.providers.googlecloud"
    ),
    "use HighThroughputExecutor, whose workers are heald's, or ThreadPoolExecutor": (
        "FluxExecutor GlobusComputeExecutor RadicalPilotExecutor TaskVineExecutor WorkQueueExecutor "
        "IPyParallelExecutor LowLatencyExecutor ExtremeScaleExecutor parsl.executors.flux parsl.executors.taskvine "
        "parsl.executors.workqueue parsl.executors.radical parsl.executors.globus_compute"
    ),
    "Parsl itself removed channels: run the script on the machine": (
        "SSHChannel SSHInteractiveLoginChannel OAuthSSHChannel"
    ),
    "fetch with another tool first, or use an http(s) URL": "GlobusStaging parsl.data_provider.globus",
    "heald ships functions and arguments with cloudpickle, and large buffers through shared memory by itself": (
        "serialize deserialize pack_apply_message unpack_apply_message ProxyStoreSerializer SerializerBase "
        "parsl.serialize.facade parsl.serialize.concretes parsl.serialize.proxystore"
    ),
    "what nodes say to each other is always encrypted, with keys of the run's own": "curvezmq parsl.curvezmq",
    'write the configuration down: Config(executors=[HighThroughputExecutor(label="htex")])': "parsl.configs",
}
ADVICE = {name: advice for advice, names in _INSTEAD.items() for name in names.split()}


def _modules() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for home, modules in _SERVED.items():
        for module, names in modules.items():
            served = found.setdefault(module if module == "parsl" else f"parsl.{module}", {})
            served.update(dict.fromkeys(names.split(), f"{_HERE}.{home}"))
    for module in list(found):
        while module := module.rpartition(".")[0]:
            found.setdefault(module, {})
    return found


MODULES = _modules()
