from __future__ import annotations

import io
import json
import logging
from pathlib import Path

from heald.compat.parsl import log


def test_file(tmp_path: Path) -> None:
    end = log.begin(True, str(tmp_path))
    logging.getLogger("parsl.x").info("hello")
    end()
    logging.getLogger("parsl.x").info("unheard")
    assert (tmp_path / "parsl.log").read_text().endswith("INFO: hello\n")


def test_json(tmp_path: Path) -> None:
    end = log.begin(log.JSONLogging(), str(tmp_path))
    logging.getLogger("parsl").warning("hello %s", "you", extra={"parsl.task": 3})
    end()
    (line,) = (tmp_path / "parsl.jsonlog").read_text().splitlines()
    found = json.loads(line)
    assert (found["formatted"], found["parsl.task"]) == ("hello you", 3)


def test_nothing(tmp_path: Path) -> None:
    log.begin(False, str(tmp_path))()
    log.begin(log.NoopLogging(), str(tmp_path))()
    assert list(tmp_path.iterdir()) == []


def test_stream() -> None:
    stream = io.StringIO()
    end = log.set_stream_logger(stream=stream)
    logging.getLogger("parsl").info("hello")
    end()
    assert stream.getvalue().endswith("[INFO]  hello\n")
