"""``planner report``: one page, or two plans side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from planner.cli import cli


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two plans of one service, of other degrees."""
    root = tmp_path_factory.mktemp("plans")
    for name, more in (("a", ()), ("b", ("--fix", "tp=4"))):
        call = ["solve", "hgx-h200", "llama3-70b-serving", "--no-simulate", "-o", str(root / name), *more]
        assert CliRunner().invoke(cli, call).exit_code == 0
    return root / "a" / "plan.yaml", root / "b" / "plan.yaml"


def test_two_plans_are_compared(plans: tuple[Path, Path]) -> None:
    """The comparison names the decision that differs, and leaves its page beside the second plan."""
    result = CliRunner().invoke(cli, ["report", *map(str, plans)])
    assert result.exit_code == 0, result.output
    assert "tensor parallel" in result.output
    assert "tensor parallel" in (plans[1].parent / "comparison.html").read_text(encoding="utf-8")


def test_comparison_as_json(plans: tuple[Path, Path], tmp_path: Path) -> None:
    """With --json one object tells what differs, in SI units."""
    page = tmp_path / "page.html"
    result = CliRunner().invoke(cli, ["--json", "report", *map(str, plans), "-o", str(page)])
    found = json.loads(result.stdout)
    assert found["page"] == str(page) and page.is_file()
    changed = {each["name"] for each in found["decisions"] if each["changed"]}
    assert "tensor parallel" in changed
    before, after = (found[side]["objective"]["value"] for side in ("before", "after"))
    assert found["objective"]["change"] == pytest.approx(after / before - 1)
    assert found["same_inputs"] == {"topology": True, "workload": True, "calibration": True}


def test_a_comparison_needs_no_inputs(plans: tuple[Path, Path], tmp_path: Path) -> None:
    """Options that say where inputs are make no sense for two plans, and are refused."""
    call = ["report", *map(str, plans), "--topology", "hgx-h200", "-o", str(tmp_path / "page.html")]
    result = CliRunner().invoke(cli, call)
    assert result.exit_code == 2
    assert "leave out" in result.output
