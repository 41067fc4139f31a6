from __future__ import annotations

import pytest

from heald.compat.parsl.config import Config
from heald.compat.parsl.error import ConfigurationError
from heald.compat.parsl.executor import ThreadPoolExecutor
from heald.compat.parsl.memo import BasicMemoizer


def test_prints_as_code() -> None:
    namespace = {"Config": Config, "ThreadPoolExecutor": ThreadPoolExecutor}
    shown = repr(Config())
    assert repr(eval(shown, namespace)) == shown


def test_older_spellings() -> None:
    memoizer = Config(app_cache=False, checkpoint_mode="task_exit", lazy_errors=True).memoizer
    assert isinstance(memoizer, BasicMemoizer)
    assert (memoizer.memoize, memoizer.checkpoint_mode) == (False, "task_exit")


def test_mistakes() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'retrys'"):
        Config(retrys=1)
    with pytest.raises(TypeError, match="exit_mode"):
        Config(exit_mode="never")
    with pytest.raises(ConfigurationError, match="unique labels"):
        Config(executors=[ThreadPoolExecutor(), ThreadPoolExecutor()])
