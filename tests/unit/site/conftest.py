"""What the tests of schedulers share: what real ones said, and a fake of their programs that says it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from heald.site.command import Answer

_SAMPLES = Path(__file__).parent / "sample"


class Program:
    """Stands in for a scheduler's programs. `answers`: by the first words of a command line; `asked`: what was run."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[], Answer]] = {}
        self.asked: list[tuple[str, ...]] = []
        self.texts: list[str] = []
        self.variables: list[dict[str, str]] = []

    def __call__(self, argv: Sequence[str], text: str = "", variables: Mapping[str, str] = {}) -> Answer:
        self.asked.append(tuple(argv))
        self.texts.append(text)
        self.variables.append(dict(variables))
        line = " ".join(argv)
        answer = next(answer for words, answer in self.answers.items() if line.startswith(words))
        return answer() if callable(answer) else answer


@pytest.fixture
def program() -> Program:
    """No program answers anything yet."""
    return Program()


@pytest.fixture
def sample() -> Callable[[str], str]:
    """The text of a file that a real scheduler wrote."""
    return lambda name: (_SAMPLES / name).read_text()
