"""What the pages tell people to type works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from planner.cli import cli
from tools.refresh_outputs import commands, refreshed

PAGES = ("README.md", "CONTRIBUTING.md", "docs/tutorial.md", "docs/index.md")


@pytest.mark.slow
def test_the_tutorial_runs_from_its_own_files(repository: Path) -> None:
    """Every command of the tutorial succeeds with the documents that it shows."""
    text = (repository / "docs" / "tutorial.md").read_text(encoding="utf-8")
    shown = refreshed(text)  # raises when a command fails
    assert "cluster.yaml: ok" in shown
    assert commands(shown) == commands(text)


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_commands_that_exist(repository: Path, page: str) -> None:
    """After `planner` in code comes a command of the program."""
    text = (repository / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^\$ )planner ([a-z]+)", text, flags=re.MULTILINE))
    assert named <= set(cli.list_commands(None))  # type: ignore[arg-type]


def test_links_between_pages_lead_somewhere(repository: Path) -> None:
    """Relative links of all pages point at files."""
    for page in [repository / "README.md", repository / "CONTRIBUTING.md", *repository.glob("docs/**/*.md")]:
        if "_build" in page.parts:
            continue
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"
