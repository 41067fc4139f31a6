"""The fixtures of Parsl's suite, without the tests that are left out; what a module leaves loaded ends with it."""

import os

import pytest
from parsl.dataflow.dflow import DataFlowKernelLoader
from parsl.tests.conftest import *  # noqa: F403

del pytest_ignore_collect  # noqa: F821  (of a pytest that was)

LEFT_OUT = tuple(os.environ["PARSL_LEFT_OUT"].split("\n"))


def _left_out(name):
    return name.startswith(LEFT_OUT)


def pytest_ignore_collect(collection_path, config):
    name = os.path.relpath(collection_path, os.path.join(os.environ["PARSL_SUITE"], "parsl", "tests"))
    return True if name.endswith(".py") and _left_out(name) else None


@pytest.hookimpl(trylast=True)
def pytest_itemcollected(item):
    if _left_out(item.nodeid.removeprefix("parsl/tests/")):
        item.add_marker(pytest.mark.skip(reason="left out"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    yield
    own = item.config.getoption("config")[0] == "local" and (nextitem is None or nextitem.module is not item.module)
    if own and DataFlowKernelLoader._dfk is not None:
        DataFlowKernelLoader._dfk.cleanup()
