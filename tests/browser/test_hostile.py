"""Nothing in the names of a document runs in a browser; comparisons open like reports do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from planner.report import render_report
from planner.report.comparison import Side, compare
from planner.report.comparison_page import render_comparison
from tests.browser.conftest import PHONE, Reader
from tests.browser.pages import CONTRAST, INVISIBLE, OVERFLOWING, ask
from tests.report import factories, machines, simulations

pytestmark = pytest.mark.browser

ATTACKS = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(2)>", '"><svg onload=alert(3)>',
    "</script><script>alert(4)//", "</style><script>alert(5)</script>", "{{7*7}}",
    "javascript:alert(6)", "' onmouseover=alert(7) x='",
)  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_run_nothing(reader: Reader, tmp_path: Path, attack: str) -> None:
    """A name that is script opens no dialog and asks for nothing, also after a search for it."""
    where = machines.topology(nodes=2)
    plan = factories.training_plan(where, tp=8, pp=1)
    why = [plan.why[0].model_copy(update={"chosen": attack, "alternative": attack, "reason": attack})]
    link = plan.links[0].model_copy(update={"source": attack, "kind": attack})
    plan = plan.model_copy(update={"name": attack, "why": why, "links": [link, *plan.links], "proof": attack})
    page = tmp_path / "page.html"
    page.write_text(render_report(plan, where, simulations.training_simulation(plan)), encoding="utf-8")
    with reader.open(page) as opened:
        opened.page.get_by_label("Find a node or GPU").fill(attack)
        assert opened.page.get_by_role("heading", level=1).inner_text() == attack
        assert opened.dialogs == []
        assert len(opened.requests) == 1
        assert opened.complaints == []


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of two plans of a service."""
    where = machines.topology(nodes=2)
    plans = [factories.serving_plan(where, tp=tp) for tp in (4, 2)]
    sides = [Side(Path(f"{plan.name}.yaml"), plan, simulations.serving_simulation(plan)) for plan in plans]
    page = tmp_path_factory.mktemp("comparison") / "page.html"
    page.write_text(render_comparison(compare(*sides)), encoding="utf-8")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_comparison_opens_everywhere(
    reader: Reader, comparison: Path, scheme: Literal["light", "dark"]
) -> None:
    """Two plans side by side are seen, readable and silent on a desk and on a phone."""
    for size in (PHONE, (1280, 900)):
        with reader.open(comparison, size=size, scheme=scheme) as opened:
            assert opened.complaints == []
            assert len(opened.requests) == 1
            for script in (INVISIBLE, OVERFLOWING, CONTRAST):
                assert ask(opened.page, script) == []
            assert opened.page.locator("path.curve").count() == 2
