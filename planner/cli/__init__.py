"""The command line: thin click commands that parse, call one function, and print."""

from planner.cli.main import cli


def main() -> None:
    """Run the command line."""
    cli(prog_name="planner")


__all__ = ["cli", "main"]
