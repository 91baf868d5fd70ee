"""The report of every shipped study works in a real browser: on a desk, a phone, in the dark, by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.studies import STUDIES
from planner.cli import cli
from planner.report.heat_map import mean_use
from planner.report.palette import load_step
from planner.schema import load
from planner.simulate.result import SimulationResult
from tests.browser.conftest import PHONE, Opened, Reader
from tests.browser.pages import CONTRAST, INVISIBLE, OVERFLOWING, ask, load_seconds

pytestmark = pytest.mark.browser

MOST_BYTES, MOST_SECONDS = 5e6, 3.0


@pytest.fixture(scope="session", params=sorted(STUDIES))
def report(request: pytest.FixtureRequest, reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a study, as a user gets it."""
    folder: Path = tmp_path_factory.mktemp("study") / request.param
    result = CliRunner().invoke(cli, ["solve", *STUDIES[request.param], "-o", str(folder)])
    assert result.exit_code == 0, result.output
    return folder / "report.html"


def sound(opened: Opened) -> None:
    """No message on the console, no request but for the page itself, no dialog."""
    assert opened.complaints == []
    assert opened.dialogs == []
    assert all(url.startswith(("file:", "data:")) for url in opened.requests)


def test_page_opens_quickly_and_quietly(reader: Reader, report: Path) -> None:
    """The page is below 5 MB, loads in less than 3 s, complains of nothing; every figure is seen."""
    assert report.stat().st_size < MOST_BYTES
    with reader.open(report) as opened:
        sound(opened)
        assert load_seconds(opened.page) < MOST_SECONDS
        assert ask(opened.page, INVISIBLE) == []
        for heading in ("Machine", "Performance", "Why this plan", "Provenance", "Inputs"):
            assert opened.page.get_by_role("heading", name=heading, exact=True).is_visible()


def test_search_filters_the_machine(reader: Reader, report: Path) -> None:
    """The search lists what it finds, marks it in the drawings, and takes the marks away again."""
    with reader.open(report) as opened:
        page = opened.page
        box, found = page.get_by_label("Find a node or GPU"), page.locator("#found")
        box.fill("gpu1")
        listed = found.locator("li").count()
        assert listed >= 1
        assert all("gpu1" in text.lower() for text in found.locator("li strong").all_inner_texts())
        assert page.locator("[data-part].found").count() >= 1
        box.fill("no such part")
        assert "nothing found" in found.inner_text()
        box.fill("")
        assert found.locator("li").count() == 0
        assert page.locator(".found, .dimmed").count() == 0
        sound(opened)


def test_slider_zooms_the_timeline(reader: Reader, report: Path) -> None:
    """Moved by the keyboard, the slider widens the timeline inside its own scroll region."""
    with reader.open(report) as opened:
        page = opened.page
        slider = page.locator("[data-zoom]").first
        canvas = page.locator(f"#{slider.get_attribute('data-zoom')}")
        before = canvas.evaluate("canvas => canvas.clientWidth")
        slider.focus()
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        assert canvas.evaluate("canvas => canvas.clientWidth") > 1.9 * before
        assert ask(page, OVERFLOWING) == []
        sound(opened)


def restless(report: Path) -> bool:
    """Return whether the simulation beside a page saw a link whose colour changes over time."""
    result = load(report.parent / "simulation.yaml", SimulationResult)
    return any(len({load_step(use) for use in mean_use(link, result.horizon)}) > 1 for link in result.links)


WIRES = """() => [...document.querySelectorAll("[data-series]")].map((each) => each.getAttribute("class"))"""


def test_slider_over_time_colours_the_links(reader: Reader, report: Path) -> None:
    """By keyboard the map shows one interval after the other, in words too; at the left end the whole run."""
    with reader.open(report) as opened:
        page = opened.page
        slider, said = page.get_by_role("slider", name="Time"), page.locator("#moment-text")
        assert slider.count() == restless(report)
        if not slider.count():
            return
        whole, seen = ask(page, WIRES), set()
        assert said.inner_text() == "mean of the whole run"
        slider.focus()
        for _ in range(96):
            page.keyboard.press("ArrowRight")
            seen.add(tuple(ask(page, WIRES)))
        assert len(seen) > 1
        assert " s to " in (slider.get_attribute("aria-valuetext") or "")
        assert "drawn links at 50 % or more; busiest " in said.inner_text()
        page.keyboard.press("Home")
        assert ask(page, WIRES) == whole
        assert said.inner_text() == "mean of the whole run"
        sound(opened)


def test_the_map_plays_and_pauses(reader: Reader, report: Path) -> None:
    """A button runs through the intervals until it is pressed again."""
    with reader.open(report) as opened:
        page = opened.page
        moment = page.locator("#moment")
        assert moment.count() == restless(report)
        if not moment.count():
            return
        page.get_by_role("button", name="Play").press("Enter")
        page.locator("#moment[aria-valuetext*=' to ']").wait_for()
        page.get_by_role("button", name="Pause").press("Enter")
        at = moment.input_value()
        page.wait_for_timeout(300)
        assert int(at) > 0 and moment.input_value() == at
        sound(opened)


def test_hovering_and_walking_by_keyboard(reader: Reader, report: Path) -> None:
    """A part tells what it is when pointed at, and when reached by arrow keys; Escape hides it."""
    with reader.open(report) as opened:
        page, tip = opened.page, opened.page.locator("#tip")
        chip = page.locator(".roles .chip").first
        chip.scroll_into_view_if_needed()
        box = chip.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tip.wait_for(state="visible")
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        chip.focus()
        page.keyboard.press("ArrowRight")
        tip.wait_for(state="visible")
        walked = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert walked and tip.inner_text() == walked
        sound(opened)


def test_first_tab_stop_skips_to_the_report(reader: Reader, report: Path) -> None:
    """Tab first reaches a visible link that jumps over the navigation."""
    with reader.open(report) as opened:
        page = opened.page
        page.keyboard.press("Tab")
        link = page.get_by_role("link", name="Skip to the report")
        assert link.evaluate("link => document.activeElement === link")
        page.keyboard.press("Enter")
        assert page.url.endswith("#main")


def test_phone_needs_no_sideways_scrolling(reader: Reader, report: Path) -> None:
    """On a screen 390 px wide only marked regions scroll sideways, and every figure is seen."""
    with reader.open(report, size=PHONE) as opened:
        assert ask(opened.page, OVERFLOWING) == []
        assert ask(opened.page, INVISIBLE) == []
        sound(opened)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(reader: Reader, report: Path, scheme: str) -> None:
    """All text keeps the contrast of WCAG AA with what lies behind it, by day and by night."""
    with reader.open(report, scheme="dark" if scheme == "dark" else "light") as opened:
        assert ask(opened.page, CONTRAST) == []
        ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        shade = sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(",")) / 3
        assert (shade < 64) == (scheme == "dark")
        sound(opened)
