"""What the pages tell people to type works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from planner.cli import cli
from tools.refresh_outputs import CONSOLE, FILE, commands, refreshed

PAGES = ("README.md", "CONTRIBUTING.md", "docs/tutorial.md", "docs/index.md")


def test_the_tutorial_runs_from_its_own_files(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of the tutorial succeeds with the documents that it shows."""
    text = (repository / "docs" / "tutorial.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name, content in FILE.findall(text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    for _, _, block in CONSOLE.findall(text):
        for command in commands(block):
            program, *arguments = shlex.split(command)
            assert program == "planner"
            result = CliRunner().invoke(cli, arguments)
            assert result.exit_code == 0, f"{command}: {result.stderr}"


def test_a_page_is_refreshed_with_real_output() -> None:
    """The tool that writes the pages runs their commands on their files, and trims what they print."""
    page = "`a.txt`:\n\n```text\nx\ny\nz\nw\n```\n\n<!-- lines: 1 -->\n```console\n$ cat a.txt\nold\n```\n"
    assert refreshed(page).endswith("```console\n$ cat a.txt\nx\n...\nw\n```\n")


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
