"""The page: all there, all safe, and small for large runs. How it looks is tried in tests/live/test_report.py."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from heald.core.event import Failure
from heald.core.history import History
from heald.core.retry import DEPENDENCY
from heald.report.page import report_html, write_report

from .conftest import FAILS, Story

EMPTY = {"meta", "link", "br", "hr", "img", "input"}


class Checker(HTMLParser):
    """Sees that every element is closed, and collects what stands in the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def told(story: Story, logs: Path) -> str:
    """A run with one of each, and names that try to break out."""
    evil = "</svg><script>alert('x')</script>"
    first = story.task(evil, 0, 4)
    bad = story.task("bad", 4, 8, worker=2, failure=FAILS, needs=[first])
    story.task("child", needs=[bad])
    (logs / "0").mkdir(parents=True)
    (logs / "0" / f"{bad}.1.out").write_text("step 1\nstep 2 </pre><img src=x onerror=alert(1)>\n")
    (logs / "0" / f"{bad}.1.err").write_text("\x1b[31mwarning\x1b[0m\n")
    return report_html(story.close(10), logs.parent)


def test_everything_is_there(story: Story, tmp_path: Path) -> None:
    page = Checker(told(story, tmp_path / "logs"))
    for words in ("Timeline", "Dependencies", "By name", "Slowest tasks", "Failures", "fit.py --fast", "2 failed"):
        assert words in page.text
    for words in ("ValueError: too <b>bold</b>", "Traceback: line 7", "step 2 </pre><img src=x", "warning"):
        assert words in page.text


def test_nothing_in_it_runs_or_is_loaded(story: Story, tmp_path: Path) -> None:
    page = Checker(told(story, tmp_path / "logs"))
    assert not page.elements & {"script", "img", "link", "iframe", "object", "a"}
    assert not any(name.startswith("on") or name in ("src", "href") for name in page.attributes)


def test_logs_of_a_moved_run_are_found_by_name_too(story: Story, tmp_path: Path) -> None:
    log = tmp_path / "elsewhere.txt"
    log.write_text("printed there")
    story.task("bad", 0, 1, failure=FAILS.with_logs("", str(log)))
    assert "printed there" in report_html(story.close(2), tmp_path / "gone")


def test_long_logs_are_cut_at_their_beginning(story: Story, tmp_path: Path) -> None:
    log = tmp_path / "long.txt"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    story.task("bad", 0, 1, failure=FAILS.with_logs(str(log), ""))
    page = report_html(story.close(2), tmp_path)
    assert "line 9999" in page
    assert "line 9000" not in page


def test_failures_that_follow_from_others_are_told_once(story: Story, tmp_path: Path) -> None:
    chain = ("child#2", "parent#1")
    for _ in range(1000):
        story.task("child", 0, 1, failure=Failure(DEPENDENCY, "parent#1 failed", chain=chain, final=True))
    page = report_html(story.close(2), tmp_path)
    assert "1,000 × child" in page
    assert "child#2 needs parent#1" in page
    assert "and 999 more like this" in page


def test_a_run_of_thousands_is_a_small_page(crowd: Callable[[int], History], tmp_path: Path) -> None:
    page = report_html(crowd(20_000), tmp_path)
    Checker(page)
    assert len(page) < 500_000


def test_a_run_of_nothing_is_a_page_too(tmp_path: Path) -> None:
    page = Checker(report_html(History(), tmp_path / "run.heald"))
    assert "Nothing has run." in page.text
    assert "no tasks" in page.text


def test_writes_the_page(story: Story, tmp_path: Path) -> None:
    file = write_report(story.close(1), tmp_path / "run.heald", tmp_path / "report.html")
    assert file.read_text().startswith("<!DOCTYPE html>")
