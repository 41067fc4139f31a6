"""Which of Parsl's modules and names are served, where each lives here, and what to use in place of the others."""

from __future__ import annotations

_HERE = "heald.compat.parsl"

# Module here -> its names by the module of Parsl that has them.
_SERVED = {
    "app": {
        "app.app": "AppBase bash_app join_app python_app",
        "app.python": "PythonApp",
        "app.bash": "BashApp",
    },
    "config": {"config": "Config"},
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
        "executors.base": "ParslExecutor",
        "executors.threads": "ThreadPoolExecutor",
        "executors.status_handling": "BlockProviderExecutor",
        "executors.high_throughput.executor": "HighThroughputExecutor",
        "executors.high_throughput.mpi_executor": "MPIExecutor",
        "executors.high_throughput.manager_selector": "BlockIdManagerSelector ManagerSelector RandomManagerSelector",
        "executors": "HighThroughputExecutor MPIExecutor ThreadPoolExecutor",
    },
    "file": {"data_provider.files": "File"},
    "future": {"app.futures": "DataFuture", "dataflow.futures": "AppFuture"},
    "kernel": {"dataflow.dflow": "DataFlowKernel DataFlowKernelLoader"},
    "log": {
        "log_utils": "DEFAULT_FORMAT set_file_logger set_stream_logger",
        "logconfigs.base": "LogConfig",
        "logconfigs.file": "FileLogging",
        "logconfigs.json": "JSONLogging",
        "logconfigs.noop": "NoopLogging",
    },
    "memo": {
        "dataflow.memoization": "BasicMemoizer Memoizer id_for_memo make_hash",
    },
    "monitoring": {
        "monitoring": "MonitoringHub",
        "monitoring.monitoring": "MonitoringHub",
        "monitoring.radios.base": "RadioConfig",
        "monitoring.radios.filesystem": "FilesystemRadio",
        "monitoring.radios.htex": "HTEXRadio",
        "monitoring.radios.multiprocessing": "MultiprocessingQueueRadio",
        "monitoring.radios.udp": "UDPRadio",
    },
    "pool": {"concurrent": "ParslPoolExecutor"},
    "provider": {
        "providers": "LocalProvider",
        "providers.base": "ExecutionProvider",
        "providers.local.local": "LocalProvider",
        "channels": "LocalChannel",
        "launchers": "AprunLauncher GnuParallelLauncher JsrunLauncher MpiExecLauncher MpiRunLauncher SimpleLauncher "
        "SingleNodeLauncher SrunLauncher SrunMPILauncher WrappedLauncher",
        "launchers.base": "Launcher",
        "launchers.launchers": "AprunLauncher GnuParallelLauncher JsrunLauncher Launcher MpiExecLauncher "
        "MpiRunLauncher SimpleLauncher SingleNodeLauncher SrunLauncher SrunMPILauncher WrappedLauncher",
    },
    "remote": {"app.bash": "remote_side_bash_executor", "app.python": "timeout", "utils": "get_std_fname_mode"},
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
        "addresses": "address_by_hostname address_by_interface address_by_query address_by_route get_all_addresses "
        "get_any_address tcp_url",
        "process_loggers": "wrap_with_logs",
        "utils": "Timer execute_wait get_all_checkpoints get_last_checkpoint sanitize_dns_label_rfc1123 "
        "sanitize_dns_subdomain_rfc1123 time_limited_open",
        "version": "VERSION",
        "usage_tracking.levels": "DISABLED LEVEL_1 LEVEL_2 LEVEL_3",
    },
}

# The root has the commonest again.
_ROOT = {
    "app": "bash_app join_app python_app",
    "config": "Config",
    "executor": "HighThroughputExecutor ThreadPoolExecutor",
    "file": "File",
    "kernel": "AUTO_LOGNAME DataFlowKernel DataFlowKernelLoader clear dfk load wait_for_current_tasks",
    "log": "set_file_logger set_stream_logger",
    "monitoring": "MonitoringHub",
    "tool": "VERSION",
}

# What to use in place of names and modules of Parsl that are not served.
_INSTEAD = {
    "one machine is served: use LocalProvider inside of the batch job, where it was used before": (
        "CondorProvider GridEngineProvider LSFProvider PBSProProvider SlurmProvider TorqueProvider CobaltProvider "
        "parsl.providers.condor parsl.providers.slurm parsl.providers.pbspro parsl.providers.lsf "
        "parsl.providers.torque parsl.providers.grid_engine parsl.providers.cluster_provider"
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
    "nothing listens on a port on one machine: there is nothing to encrypt": "curvezmq parsl.curvezmq",
    'write the configuration down: Config(executors=[HighThroughputExecutor(label="htex")])': "parsl.configs",
}
ADVICE = {name: advice for advice, names in _INSTEAD.items() for name in names.split()}


def _modules() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {"parsl": {}}
    for home, modules in _SERVED.items():
        for module, names in modules.items():
            served = found.setdefault(f"parsl.{module}", {})
            served.update(dict.fromkeys(names.split(), f"{_HERE}.{home}"))
    for home, names in _ROOT.items():
        found["parsl"].update(dict.fromkeys(names.split(), f"{_HERE}.{home}"))
    found["parsl"]["__version__"] = f"{_HERE}.tool"
    for module in list(found):
        while module := module.rpartition(".")[0]:
            found.setdefault(module, {})
    return found


MODULES = _modules()
