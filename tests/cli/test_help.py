"""The option surface is frozen, and help is instant; ``python -m tests.cli.test_help`` records a new one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from planner.cli import cli

SURFACE = Path(__file__).with_name("surface.txt")
HEAVY = (
    "ortools",
    "networkx",
    "simpy",
    "matplotlib",
    "jinja2",
    "numpy",
    "pydantic",
    "rich",
    "yaml",
    "pandas",
)


def surface(command: click.Command, name: str) -> Iterator[str]:
    """Yield a line per command: its arguments, then its options."""
    parts = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            parts.append(parameter.make_metavar(click.Context(command)))
    options = [
        "/".join([*option.opts, *option.secondary_opts])
        for option in command.params
        if isinstance(option, click.Option)
    ]
    yield " ".join([name, *parts, *sorted(options)])
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from surface(found, f"{name} {child}")


def recorded() -> str:
    """Return the whole surface as it is now."""
    return "\n".join(surface(cli, "planner")) + "\n"


def test_commands_and_options_are_those_on_record() -> None:
    """A change of the surface is a change of surface.txt, and so of the changelog."""
    assert recorded() == SURFACE.read_text(encoding="utf-8")


def test_every_command_says_what_it_does_with_an_example() -> None:
    """Each command has a sentence and, unless it is a group, a call to copy."""
    for line in surface(cli, "planner"):
        words = [word for word in line.split() if word.islower() and not word.startswith("-")]
        command: click.Command = cli
        for word in words[1:]:
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), word)
            if found is None:
                break
            command = found
        assert command.help
        if not isinstance(command, click.Group):
            assert command.epilog
            assert "planner " in command.epilog


def test_help_imports_nothing_heavy() -> None:
    """The libraries of the commands are not imported to list them."""
    code = (
        "import sys; from planner.cli import cli; cli(['--help'], standalone_mode=False); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: planner" in result.stdout or "Usage: " in result.stdout
    assert result.stderr.strip() == "[]"


@pytest.mark.slow
def test_help_is_instant() -> None:
    """`planner --help` answers within 0.3 s; the best of several runs, as the machine may be busy."""
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "planner", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


if __name__ == "__main__":
    SURFACE.write_text(recorded(), encoding="utf-8")
