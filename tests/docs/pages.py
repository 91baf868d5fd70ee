"""What the pages of the documentation show: fenced blocks, and commands in blocks and in running text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```([a-z]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`(planner [^`\n]+(?:\n[^`\n]+)?)`")
_SHELL = frozenset({"console", "sh", ""})


@dataclass(frozen=True)
class Block:
    """A fenced block and the language that it is marked as."""

    language: str
    text: str


def pages(repository: Path) -> list[Path]:
    """Return every page, those of the build left out."""
    found = [repository / "README.md", repository / "CONTRIBUTING.md", *repository.glob("docs/**/*.md")]
    return sorted(path for path in found if not {"_build", "fields"} & {*path.parts})


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [Block(*match) for match in _BLOCK.findall(page)]


def shell_lines(page: str) -> Iterator[str]:
    """Yield the command lines of a page's blocks, continued lines joined, what they print left out."""
    for block in blocks(page):
        if block.language not in _SHELL:
            continue
        text = block.text.replace("\\\n", " ")
        prompts = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        if block.language == "console":
            yield from prompts
        else:
            yield from (
                line for line in text.splitlines() if line.startswith(("planner ", "torchrun ", "kubectl "))
            )


def planner_calls(page: str) -> Iterator[list[str]]:
    """Yield the words of every call of the program that a page shows, in blocks or in running text."""
    lines = [line for block in blocks(page) for line in block.text.replace("\\\n", " ").splitlines()]
    prose = _BLOCK.sub("", page)
    spans = [span.replace("\n", " ") for span in _SPAN.findall(prose)]
    for line in [*lines, *spans]:
        found = re.search(r"(?:^|[\s;&|])planner (.+)$", line)
        if found is None:
            continue
        text = re.split(r"\s(?:#|&&|\|\s|;|>)", found[1])[0]
        try:
            words = shlex.split(text)
        except ValueError:
            continue
        if words and re.fullmatch(r"-{0,2}[a-z][a-z0-9-]*", words[0]):
            yield words
