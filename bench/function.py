"""The functions that tasks run. A module of its own, so that every system's workers can import it by name."""

import os
import threading
import time

MODULUS = 1_000_003  # keeps the numbers of deep graphs small


def noop(value):
    return value


def increment(value):
    return value + 1


def add(*values):
    return sum(values) % MODULUS


def stand_in(seconds, *_):
    """Take as long as a task of a trace did; say from when to when."""
    start = time.time()
    time.sleep(seconds)
    return start, time.time()


def whereabouts(seconds):
    """Say which worker ran this, after long enough for the other workers to get one too."""
    time.sleep(seconds)
    return os.getpid(), threading.get_ident()


def block(path, seconds=600):
    """Hold a worker until the file exists."""
    deadline = time.monotonic() + seconds
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.02)


def change(array):
    """Give a changed copy: the array must travel both ways."""
    changed = array.copy()
    changed[0] += 1
    return changed


def read(array, part):
    """Read a thousand numbers of a large array."""
    return float(array[part * 1000 : (part + 1) * 1000].sum()) + len(array)


def read_there(array, part):
    """Read a thousand numbers of a large array, and say where."""
    return read(array, part), os.uname().nodename


def call(command):
    """Run a command from a Python worker: what a system without commands of its own leaves to its user."""
    import subprocess  # here, because the start-up of every system pays for this module

    return subprocess.call(command)


def command_line(command):
    """Give the command line, for systems whose command tasks are functions that return one."""
    return command
