"""The workloads, each written once against the adapter: what is timed is what stands under `with meter`.

Modules that only one workload needs are imported in it: the start-up figure of every system pays for the others.
"""

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench import function, graph
from bench.adapter import Adapter

LAYER_WIDTH = 100
IN_FLIGHT = 8  # bounds the memory of systems that copy a large argument for each task
LAPS = 3  # of workloads with large arrays, of which the last counts: by then NumPy is loaded and memory warm
LATENCY_SECONDS = 10
LISTED_AT_ONCE = 50_000  # futures held while a long journal is made
SCRIPTS = Path(__file__).parent / "script"
PRINTED = {"hello": "hello world HELLO WORLD", "files": "220", "reduce": "3.1333125"}


class Workload(NamedTuple):
    """A workload: how many tasks, what its figure means, and the function that gives the figure."""

    tasks: int
    unit: str
    about: str
    run: Callable[[Adapter, int, Any], float]
    more_is_better: bool = False
    warm: bool = True  # the system is started, and every worker has answered, before it runs


def noop(system, tasks, meter):
    with meter:
        results = system.gather([system.submit(function.noop, number) for number in range(tasks)])
    expect(sum(results), tasks * (tasks - 1) // 2)
    return tasks / meter.seconds


def latency(system, tasks, meter):
    from statistics import median

    laps = []
    deadline = time.perf_counter() + LATENCY_SECONDS
    with meter:
        while len(laps) < tasks and time.perf_counter() < deadline:
            began = time.perf_counter()
            system.gather([system.submit(function.noop, len(laps))])
            laps.append(time.perf_counter() - began)
    meter.tasks = len(laps)
    return median(laps) * 1e6


def chain(system, tasks, meter):
    with meter:
        handle = system.submit(function.increment, 0)
        for _ in range(tasks - 1):
            handle = system.after(function.increment, handle)
        [total] = system.gather([handle])
    expect(total, tasks)
    return tasks / meter.seconds


def fan(system, tasks, meter):
    meter.tasks = tasks + 2
    with meter:
        root = system.submit(function.increment, 0)
        leaves = [system.after(function.add, root, number) for number in range(tasks)]
        [total] = system.gather([system.after(function.add, *leaves)])
    expect(total, sum(number + 1 for number in range(tasks)) % function.MODULUS)
    return meter.tasks / meter.seconds


def layered(system, tasks, meter):
    layers = max(1, tasks // LAYER_WIDTH)
    meter.tasks = layers * LAYER_WIDTH
    expected = list(range(LAYER_WIDTH))
    with meter:
        layer = [system.submit(function.noop, number) for number in expected]
        for _ in range(layers - 1):
            layer = [system.after(function.add, *parents) for parents in _neighbours(layer)]
        results = system.gather(layer)
    for _ in range(layers - 1):
        expected = [function.add(*parents) for parents in _neighbours(expected)]
    expect(list(results), expected)
    return meter.tasks / meter.seconds


def trace(system, tasks, meter):
    steps = graph.montage(tasks)
    meter.tasks = len(steps)
    handles = []
    with meter:
        for seconds, parents in steps:
            send = system.after if parents else system.submit
            handles.append(send(function.stand_in, seconds, *(handles[parent] for parent in parents)))
        times = list(system.gather(handles))
    early = [place for place, step in enumerate(steps) for one in step.parents if times[place][0] < times[one][1]]
    expect(early, [])  # none began before the end of one that it needs
    return 100 * graph.shortest(steps, system.workers) / meter.seconds


def array(system, tasks, meter):
    import numpy

    for lap in range(LAPS):
        arrays = [numpy.full(10_000_000 // 8, float(number)) for number in range(lap, lap + tasks)]
        with meter:
            results = system.gather([system.submit(function.change, each) for each in arrays])
        expect([(each[0], each[-1]) for each in results], [(lap + number + 1, lap + number) for number in range(tasks)])
        del arrays, results
    return meter.seconds / tasks * 1e3


def shared_array(system, tasks, meter):
    import numpy

    value = numpy.ones(100_000_000 // 8)
    results = []
    with meter:
        shared = system.share(value)
        for first in range(0, tasks, IN_FLIGHT):
            parts = range(first, min(first + IN_FLIGHT, tasks))
            results += system.gather([system.submit(function.read, shared, part) for part in parts])
    expect(results, [1000.0 + len(value)] * tasks)
    return meter.seconds / tasks * 1e3


def spread(system, tasks, meter):
    import numpy

    for lap in range(LAPS):
        value = numpy.full(100_000_000 // 8, float(lap))
        with meter:
            shared = system.share(value)
            results = system.gather([system.submit(function.read_there, shared, part) for part in range(tasks)])
        expect([figure for figure, _ in results], [1000.0 * lap + len(value)] * tasks)
        del value, shared
    return meter.seconds * 1e3


def sent(system, tasks, meter):
    """Count what leaves the head while one array is read three times on every node."""
    import numpy

    value = numpy.ones(100_000_000 // 8)
    before = _sent_bytes()
    with meter:
        shared = system.share(value)
        for _ in range(3):
            system.gather([system.submit(function.read_there, shared, part) for part in range(tasks)])
    return (_sent_bytes() - before) / value.nbytes / tasks


def job_start(system, tasks, meter):
    from statistics import median

    from bench.cluster import Accepted, await_idle, delay

    unavoidable = median(delay(system.folder, system.workers) for _ in range(3))
    await_idle(system.workers)
    accepted = Accepted(system.folder)
    with meter:
        system.start()
        system.gather([system.submit(function.noop, 1)])
    return time.time() - accepted.time() - unavoidable


def agents(count):
    def run(system, tasks, meter):
        system.simulate(count)
        gather_noops(system, 2 * count)  # every agent has a worker, and knows the function
        before = time.process_time()
        with meter:
            gather_noops(system, tasks)
        return (time.process_time() - before) / tasks * 1e6

    return run


def agents_memory(system, count, meter):
    before = _memory("VmRSS")
    with meter:
        system.simulate(count)
        gather_noops(system, 2 * count)
    gc.collect()
    return (_memory("VmRSS") - before) / count / 1e3


def gather_noops(system, tasks):
    system.gather([system.submit(function.noop, number) for number in range(tasks)])


def packed(system, tasks, meter):
    from bench import packing

    jobs = [packing.Job(*each) for each in packing.SEVEN] * tasks
    with meter:
        seconds = system.pack(jobs, packing.NODES)
    return (seconds / packing.best(jobs) - 1) * 100


def command(system, tasks, meter):
    with meter:
        succeeded = system.commands("/bin/true", tasks)
    expect(succeeded, tasks)
    return tasks / meter.seconds


def run_lines(system, tasks, meter):
    with meter:
        system.lines("true", [str(number) for number in range(tasks)])
    return tasks / meter.seconds


def parsl_scripts(system, tasks, meter):
    with meter:
        printed = {name: system.script(SCRIPTS / f"{name}.py").strip() for name in list(PRINTED)[:tasks]}
    expect(printed, {name: PRINTED[name] for name in printed})
    return meter.seconds


def parsl_perf(system, tasks, meter):
    with meter:
        printed = system.parsl_perf(SCRIPTS / "config.py", tasks)
    return float(printed.rpartition("Tasks per second:")[2].split()[0])


def first_result(system, tasks, meter):
    with meter:
        system.start()
        system.gather([system.submit(function.noop, 1)])
    return time.monotonic() - meter.born


def import_time(system, tasks, meter):
    import subprocess
    from statistics import median

    if not system.imports:
        raise NotImplementedError("nothing to import")
    clock = "time.perf_counter()"
    program = f"import time; began = {clock}; {system.imports}; print({clock} - began)"
    laps = []
    with meter:
        for _ in range(tasks + 1):
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
            if done.returncode:
                raise ImportError(done.stderr.splitlines()[-1])
            laps.append(float(done.stdout.split()[-1]))
    return median(laps[1:]) * 1e3  # the first one may have compiled the modules


def listing(system, tasks, meter):
    if not system.lists:  # asked before a million tasks are run
        raise NotImplementedError("it has no program that lists the tasks of a run")
    system.start()
    for first in range(0, tasks, LISTED_AT_ONCE):
        numbers = range(first, min(first + LISTED_AT_ONCE, tasks))
        system.gather([system.submit(function.noop, number) for number in numbers])
    system.stop()
    with meter:
        printed = system.listing(50)
    expect(f"{tasks:,} done" in printed, True)
    return meter.seconds


def help_page(system, tasks, meter):
    from statistics import median

    laps = []
    with meter:
        for _ in range(tasks):
            began = time.perf_counter()
            system.help()
            laps.append(time.perf_counter() - began)
    return median(laps) * 1e3


def queued(system, tasks, meter):
    gate = Path(system.folder, "gate")
    blockers = [system.submit(function.block, str(gate)) for _ in range(system.workers)]
    gc.collect()
    before = _memory("RssAnon")
    with meter:
        handles = [system.submit(function.noop, number) for number in range(tasks)]
    time.sleep(1)  # some systems take in what was submitted on a thread of their own
    growth = _memory("RssAnon") - before
    gate.touch()
    expect(sum(system.gather(handles)), tasks * (tasks - 1) // 2)
    system.gather(blockers)
    return growth / tasks


def map_memory(system, tasks, meter):
    gc.collect()
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    with meter:
        total = sum(system.map(function.noop, range(tasks)))
    expect(total, tasks * (tasks - 1) // 2)
    return (_memory("VmHWM") - before) / 1e6


def expect(actual: object, expected: object) -> None:
    """Refuse the figure of a system that computed something else."""
    if actual != expected:
        raise ValueError(f"wrong result: {str(actual)[:80]} instead of {str(expected)[:80]}")


def _neighbours(layer: list[Any]) -> list[tuple[Any, Any, Any]]:
    width = len(layer)
    return [(layer[place], layer[(place + 1) % width], layer[(place + 2) % width]) for place in range(width)]


def _sent_bytes() -> int:
    """Give the bytes that this host has sent to others."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return sum(int(line.split()[9]) for line in lines if line.strip().startswith("eth"))


def _memory(kind: str) -> int:
    """Give a line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind + ":"))


WORKLOADS = {
    "noop_1k": Workload(1_000, "tasks/s", "1,000 empty tasks", noop, more_is_better=True),
    "noop_10k": Workload(10_000, "tasks/s", "10,000 empty tasks", noop, more_is_better=True),
    "noop_100k": Workload(100_000, "tasks/s", "100,000 empty tasks", noop, more_is_better=True),
    "latency": Workload(1_000, "us", "one task there and back, warm, median", latency),
    "chain": Workload(1_000, "tasks/s", "1,000 tasks, each after the one before", chain, more_is_better=True),
    "fan": Workload(1_000, "tasks/s", "one task, 1,000 after it, one after those", fan, more_is_better=True),
    "layered": Workload(10_000, "tasks/s", "100 layers of 100 tasks, 3 parents each", layered, more_is_better=True),
    "trace": Workload(
        1_000, "% of ideal", "a trace like Montage's: 1,000 tasks of 0.5 to 20 ms", trace, more_is_better=True
    ),
    "array": Workload(20, "ms a task", "an array of 10 MB in, one of 10 MB out", array),
    "shared_array": Workload(50, "ms a task", "one array of 100 MB read by 50 tasks", shared_array),
    "command": Workload(1_000, "commands/s", "/bin/true 1,000 times", command, more_is_better=True),
    "run_lines": Workload(
        1_000, "lines/s", "`true` for 1,000 inputs, by the program for that", run_lines, more_is_better=True, warm=False
    ),
    "parsl_scripts": Workload(
        3, "s", "three scripts of Parsl's kind, each from start to end", parsl_scripts, warm=False
    ),
    "parsl_perf": Workload(
        10_000, "tasks/s", "10,000 empty apps, as parsl-perf measures", parsl_perf, more_is_better=True, warm=False
    ),
    "first_result": Workload(1, "s", "from the start of a script to its first result", first_result, warm=False),
    "import": Workload(5, "ms", "the import that a script starts with", import_time, warm=False),
    "listing": Workload(1_000_000, "s", "a page of the tasks of a run of a million, listed", listing, warm=False),
    "help": Workload(11, "ms", "`--help` of the system's own program, median", help_page, warm=False),
    "queued": Workload(100_000, "bytes a task", "the client's memory for tasks that wait in the queue", queued),
    "map": Workload(1_000_000, "MB", "the client's peak growth while a map yields its results", map_memory),
    **{
        f"agents_{count}": Workload(
            100_000, "us a task", f"CPU time of the head for a task, with {count:,} nodes", agents(count), warm=False
        )
        for count in (10, 100, 1_000, 10_000)
    },
    "agents_memory": Workload(10_000, "KB a node", "memory of the head for 10,000 nodes", agents_memory, warm=False),
}

# With one worker on each node of a cluster.
CLUSTER_WORKLOADS = {
    **{name: WORKLOADS[name] for name in ("noop_1k", "noop_10k", "latency", "array")},
    "spread": Workload(4, "ms", "one array of 100 MB, read on four nodes", spread),
    "sent": Workload(4, "times", "how often the head sends an array that each node reads three times", sent),
    "job_start": Workload(
        1, "s", "from a job's acceptance to the first result, without the scheduler's delay", job_start, warm=False
    ),
    "packed": Workload(1, "% over", "seven jobs of 1 to 3 nodes: longer than the best packing", packed, warm=False),
}
