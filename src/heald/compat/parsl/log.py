"""Parsl's logging: `parsl.log` in the folder of the run, and loggers for people who watch.

heald writes a few lines a run and one for each failure, not twenty for each task.
"""

from __future__ import annotations

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_FORMAT = (
    "%(created)f %(asctime)s %(processName)s-%(process)d %(threadName)s %(name)s:%(lineno)d %(levelname)s: %(message)s"
)
_STREAM_FORMAT = "%(asctime)s %(name)s:%(lineno)d [%(levelname)s]  %(message)s"


class LogConfig(ABC):
    """How a run is logged."""

    @abstractmethod
    def initialize_logging(self, *, log_dir: Path, log_name: str) -> Callable[[], None]:
        """Begin, with files in `log_dir`; what is returned ends it."""


@dataclass
class FileLogging(LogConfig):
    """Lines of text in a file."""

    format_string: str = DEFAULT_FORMAT
    level: int = logging.DEBUG

    def initialize_logging(self, *, log_dir: Path, log_name: str) -> Callable[[], None]:
        """Begin; what is returned ends it."""
        return set_file_logger(log_dir / f"{log_name}.log", "parsl", self.level, self.format_string)


@dataclass
class JSONLogging(LogConfig):
    """A JSON object a line."""

    level: int = logging.DEBUG

    def initialize_logging(self, *, log_dir: Path, log_name: str) -> Callable[[], None]:
        """Begin; what is returned ends it."""
        return _attach(_file(log_dir / f"{log_name}.jsonlog"), "parsl", self.level, _JSONFormatter())


class NoopLogging(LogConfig):
    """Nothing."""

    def initialize_logging(self, *, log_dir: Path, log_name: str) -> Callable[[], None]:
        """Begin; what is returned ends it."""
        return lambda: None


class _JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        found = {**vars(record), "formatted": record.getMessage()}
        return json.dumps(
            {name: value if isinstance(value, int | float) else str(value) for name, value in found.items()}
        )


def set_stream_logger(
    name: str = "parsl", level: int = logging.DEBUG, format_string: str | None = None, stream: Any = None
) -> Callable[[], None]:
    """Log to standard error, or to `stream`; what is returned ends it."""
    return _attach(logging.StreamHandler(stream), name, level, logging.Formatter(format_string or _STREAM_FORMAT))


def set_file_logger(
    filename: str | os.PathLike[str], name: str = "parsl", level: int = logging.DEBUG, format_string: str | None = None
) -> Callable[[], None]:
    """Log to a file; what is returned ends it."""
    return _attach(_file(filename), name, level, logging.Formatter(format_string or DEFAULT_FORMAT))


def _file(path: str | os.PathLike[str]) -> logging.Handler:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return logging.FileHandler(path)


def _attach(handler: logging.Handler, name: str, level: int, form: logging.Formatter) -> Callable[[], None]:
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    handler.setLevel(level)
    handler.setFormatter(form)
    logger.addHandler(handler)

    def detach() -> None:
        logger.removeHandler(handler)
        handler.close()

    return detach


def begin(wanted: bool | LogConfig, folder: str) -> Callable[[], None]:
    """Log a run as its Config says; what is returned ends it."""
    if wanted is False:
        return lambda: None
    config = FileLogging() if wanted is True else wanted
    return config.initialize_logging(log_dir=Path(folder), log_name="parsl")
