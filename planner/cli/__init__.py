"""The command line: thin click commands that parse, call one function, and print."""

import io
import sys

from planner.cli.main import cli


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a sign shows "?" instead
    cli(prog_name="planner")


__all__ = ["cli", "main"]
