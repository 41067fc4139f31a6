"""Contract suites that an implementation of ours, or of yours, must pass. They need pytest.

from heald.testing.executor import ExecutorContract
from heald.testing.scheduler import SchedulerContract
"""

import sys

# Only where tests run: a worker that imports the work of a suite needs no pytest.
if pytest := sys.modules.get("pytest"):
    pytest.register_assert_rewrite("heald.testing.executor", "heald.testing.scheduler")
