"""Run the commands shown in Markdown pages and put their real output below them.

    python tools/refresh_outputs.py README.md docs/tutorial.md

A fenced block after a line such as "`machine.yaml`:" is written to that file; in a fenced block of language
console each line that starts with "$ " is run, in one temporary folder per page, and what it prints replaces
what stands below it. Before a block, <!-- lines: 20 --> keeps the first 20 lines of each output, and
<!-- parts: Result; Why --> the first part, those with such titles, and the last line.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FILE = re.compile(r"`([\w./-]+)`:\n+```\w+\n(.*?)```", re.DOTALL)
CONSOLE = re.compile(r"(?:<!-- (lines|parts): (.*?) -->\n+)?```console\n(.*?)```", re.DOTALL)
WIDTH = "100"


def refreshed(text: str) -> str:
    """Return a page with the output of its commands as it is now.

    Raises
    ------
    subprocess.CalledProcessError
        If a command fails.
    """
    with tempfile.TemporaryDirectory() as parent:
        folder = str(Path(parent, "work"))
        Path(folder).mkdir()
        for name, content in FILE.findall(text):
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return CONSOLE.sub(lambda block: _block(block, folder), text)


def _block(block: re.Match[str], folder: str) -> str:
    shown: list[str] = []
    for command in commands(block[3]):
        shown += [f"$ {command}", *_trimmed(_run(command, folder), block[1], block[2])]
    return block[0][: block[0].index("```console")] + "\n".join(["```console", *shown, "```"])


def commands(block: str) -> list[str]:
    """Return the commands of a console block."""
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def _run(command: str, folder: str) -> list[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "COLUMNS": WIDTH}
    result = subprocess.run(
        command, shell=True, cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return [line.rstrip() for line in result.stdout.splitlines()]


def _trimmed(lines: list[str], how: str | None, what: str) -> list[str]:
    if how == "lines":
        most = int(what)
        return lines if len(lines) <= most + 2 else [*lines[:most], "...", lines[-1]]
    if how != "parts":
        return lines
    first, *parts = "\n".join(lines[:-1]).split("\n\n")
    titles = tuple(title.strip() for title in what.split(";"))
    kept = [first, *(part if part.startswith(titles) else "..." for part in parts)]
    kept = [part for index, part in enumerate(kept) if part != "..." or kept[index - 1] != "..."]
    return ["\n\n".join(kept), lines[-1]]


def main() -> None:
    """Refresh the pages named on the command line."""
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(refreshed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
