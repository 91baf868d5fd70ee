"""Run the commands shown in Markdown pages and put their real output below them.

    python tools/refresh_outputs.py README.md docs/tutorial.md

A fenced block after a line such as "`machine.yaml`:" is written to that file; in a fenced block of language
console each line that starts with "$ " is run, in one temporary folder per page, and what it prints replaces
what stands below it. A comment <!-- lines: 20 --> before a block keeps the first 20 lines of each output.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FILE = re.compile(r"`([\w./-]+)`:\n+```\w+\n(.*?)```", re.DOTALL)
CONSOLE = re.compile(r"(?:<!-- lines: (\d+) -->\n+)?```console\n(.*?)```", re.DOTALL)
WIDTH = "100"


def refreshed(text: str) -> str:
    """Return a page with the output of its commands as it is now.

    Raises
    ------
    subprocess.CalledProcessError
        If a command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, content in FILE.findall(text):
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return CONSOLE.sub(lambda block: _block(block, folder), text)


def _block(block: re.Match[str], folder: str) -> str:
    most = int(block[1]) if block[1] else None
    lines = [line for command in commands(block[2]) for line in _run(command, folder, most)]
    start = block[0].index("```console")
    return block[0][:start] + "\n".join(["```console", *lines, "```"])


def commands(block: str) -> list[str]:
    """Return the commands of a console block."""
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def _run(command: str, folder: str, most: int | None) -> Iterator[str]:
    yield f"$ {command}"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "COLUMNS": WIDTH}
    result = subprocess.run(
        command, shell=True, cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    if most is None or len(lines) <= most + 2:
        yield from lines
        return
    yield from (*lines[:most], "...", lines[-1])


def main() -> None:
    """Refresh the pages named on the command line."""
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(refreshed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
