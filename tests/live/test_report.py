"""The page of a run in a real browser: what it draws and where, in light and dark, in wide and narrow windows."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import heald
from heald.flow.run import Run
from heald.flow.trace import Trace
from heald.report.figures import figures
from heald.report.gantt import gantt_text
from heald.report.page import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'heald[test]'")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no chromium: apt-get install chromium", allow_module_level=True)

# No sandbox in a container, no calls home, no shared memory that a container may not have.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
VIEWS = {
    "light": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 800}, "color_scheme": "light"},
}
KINDS = ("project", "difference", "fit", "model", "correct", "add")

# What a page can tell of itself: the colour that text has against what it stands on, as WCAG 2 counts contrast.
CONTRAST = """() => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest('svg, style')) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(parse(style.color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([walker.currentNode.data.trim().slice(0, 30), ratio, parseFloat(style.fontSize)]);
  }
  return found;
}"""


@heald.task
def simulate(number: int) -> int:
    time.sleep(random.Random(number).uniform(0.0005, 0.004))
    return number


@heald.task(name="<b>diverges</b>")
def diverge(number: int) -> int:
    print("step 1: energy <img src=x onerror=alert(1)>")
    print("\x1b[31mwarning\x1b[0m: too hot", file=sys.stderr)
    raise ArithmeticError(f"energy of {number} is <not> finite")


@heald.task
def collect(numbers: list[int]) -> int:
    time.sleep(0.05)
    return sum(numbers)


def montage(width: int) -> dict[str, Any]:
    """A trace in the style of Montage: images are projected, compared with their neighbours, corrected, and added."""
    parents: dict[str, list[str]] = {f"project_{number}": [] for number in range(width)}
    for number in range(width - 1):
        parents[f"difference_{number}"] = [f"project_{number}", f"project_{number + 1}"]
    parents["fit_0"] = [f"difference_{number}" for number in range(width - 1)]
    parents["model_0"] = ["fit_0"]
    for number in range(width):
        parents[f"correct_{number}"] = [f"project_{number}", "model_0"]
    parents["add_0"] = [f"correct_{number}" for number in range(width)]
    seconds = dict(zip(KINDS, (12, 1, 2, 6, 3, 9), strict=True))
    tasks = [{"id": name, "name": name, "parents": needed, "children": []} for name, needed in parents.items()]
    ran = [{"id": name, "runtimeInSeconds": seconds[name.partition("_")[0]]} for name in parents]
    execution = {"makespanInSeconds": 100, "executedAt": "2026-01-01T00:00:00Z", "tasks": ran}
    workflow = {"specification": {"tasks": tasks}, "execution": execution}
    return {"name": "montage", "schemaVersion": "1.5", "workflow": workflow}


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of few tasks: a replayed trace."""
    folder = tmp_path_factory.mktemp("replayed")
    (folder / "trace.json").write_text(json.dumps(montage(16)))
    with heald.Session([heald.ProcessExecutor(2)], journal=folder / "run.heald", memo=None, progress=False) as session:
        assert Trace.read(folder / "trace.json").replay(session, speed=0.005).broken == ()
    return Run(folder / "run.heald")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of thousands of tasks, of which some fail."""
    folder = tmp_path_factory.mktemp("large") / "run.heald"
    with heald.Session([heald.ProcessExecutor(workers=4)], memo=None, journal=folder) as session:
        for _ in range(3):
            session.submit(collect, [session.submit(simulate, number) for number in range(1000)])
            session.submit(collect, [session.submit(diverge, number) for number in range(3)])
    return Run(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=VIEWS)
def window(request: pytest.FixtureRequest, browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A page, and what it complains about or asks of a network."""
    page = browser.new_page(**VIEWS[request.param])
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith("file:") else complaints.append(asked.url))
    yield page, complaints
    page.close()


@pytest.fixture
def view(window: tuple[Page, list[str]]) -> Iterator[Page]:
    """A page that fails the test when there is anything to complain about."""
    page, complaints = window
    yield page
    assert not complaints


def show(run: Run, page: Page, tmp_path: Path) -> None:
    page.goto(write_report(run.history(), run.path, tmp_path / "report.html").as_uri())
    (tmp_path / "report.png").write_bytes(page.screenshot(full_page=True))  # to look at: playwright's own would thread


def boxes(page: Page, selector: str) -> list[dict[str, float]]:
    """Where elements are drawn."""
    script = (
        "found => found.map(one => one.getBoundingClientRect()).map(({x, y, width, height}) => ({x, y, width, height}))"
    )
    found: list[dict[str, float]] = page.eval_on_selector_all(selector, script)
    assert all(box["width"] and box["height"] for box in found), f"some of {selector} are not drawn"
    return found


def test_fits_its_window_and_can_be_read(large: Run, view: Page, tmp_path: Path) -> None:
    show(large, view, tmp_path)
    width = view.evaluate("document.documentElement.scrollWidth")
    assert width == view.viewport_size["width"], "the page is wider than its window"
    for words, contrast, size in view.evaluate(CONTRAST):
        assert contrast >= 4.5, f"{words!r} can hardly be read: contrast {contrast:.1f}"
        assert size >= 11, f"{words!r} is {size} pixels high"


def test_bars_are_where_the_tasks_were(replayed: Run, view: Page, tmp_path: Path) -> None:
    show(replayed, view, tmp_path)
    found = figures(replayed.history())
    tracks = boxes(view, ".lane .track")
    assert len(tracks) == len(found.lanes) == 2
    for lane, track in zip(view.query_selector_all(".lane"), tracks, strict=True):
        spans = found.lanes[lane.query_selector(".name").inner_text()]
        wide = [span for span in spans if span.name == "project"]
        drawn = {
            bar.query_selector("title").text_content().partition(":")[0]: bar.bounding_box()
            for bar in lane.query_selector_all("rect.bar")
        }
        for span in wide:
            box = drawn[f"{span.name}#{span.task}"]
            begin = track["x"] + track["width"] * found.elapsed(span.start) / found.seconds
            assert box["x"] == pytest.approx(begin, abs=2)
            assert box["width"] == pytest.approx(track["width"] * span.seconds / found.seconds, abs=2)
        assert all(track["x"] - 2 <= box["x"] <= track["x"] + track["width"] + 2 for box in drawn.values())


def test_busy_cores_stand_over_the_lanes(replayed: Run, view: Page, tmp_path: Path) -> None:
    show(replayed, view, tmp_path)
    [busy] = boxes(view, ".busy-cores .track")
    lane = boxes(view, ".lane .track")[0]
    assert (busy["x"], busy["width"]) == (lane["x"], lane["width"])
    assert busy["y"] + busy["height"] <= lane["y"]
    assert max(column["height"] for column in boxes(view, ".busy rect")) == pytest.approx(72, abs=2)


def test_dependencies_go_one_way(replayed: Run, view: Page, tmp_path: Path) -> None:
    show(replayed, view, tmp_path)
    labels = [element.text_content() for element in view.query_selector_all(".dag .box text:not(.count)")]
    places = boxes(view, ".dag .box")
    assert set(labels) == set(KINDS)
    tops = {label: box["y"] for label, box in zip(labels, places, strict=True)}
    assert sorted(tops, key=tops.__getitem__) == list(KINDS)
    assert len(view.query_selector_all(".dag > path")) == 6


def test_thousands_of_tasks_stay_readable(large: Run, view: Page, tmp_path: Path) -> None:
    show(large, view, tmp_path)
    assert "3,015" in view.inner_text(".tiles")
    bars = boxes(view, ".lane rect.bar")
    assert 50 < len(bars) < 6000
    assert min(bar["width"] for bar in bars) >= 0.3
    assert len(view.query_selector_all(".dag .box")) == 3
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_failures_come_with_their_logs_as_text(large: Run, view: Page, tmp_path: Path) -> None:
    show(large, view, tmp_path)
    text = view.inner_text("#failures")
    assert "9 × <b>diverges</b>" in text
    assert "energy of 0 is <not> finite" in text
    assert "step 1: energy <img src=x onerror=alert(1)>" in text
    assert "warning: too hot" in text
    assert not view.query_selector_all("img, script, #failures b")
    assert view.query_selector_all(".lane rect.bar.failed")


def test_details_open_without_a_program(large: Run, view: Page, tmp_path: Path) -> None:
    show(large, view, tmp_path)
    closed = view.query_selector("#failures article details:not([open])")
    hidden = closed.query_selector(".message")
    assert not hidden.is_visible()
    closed.query_selector("summary").click()
    assert hidden.is_visible()


def test_the_chart_as_text_says_the_same(replayed: Run) -> None:
    chart = gantt_text(replayed.history())
    assert [line.split()[0] for line in chart.splitlines()[:6]] == list(KINDS)
    assert max(map(len, chart.splitlines())) <= 80
