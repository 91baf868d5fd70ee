"""The command group: planner errors become one message and an exit code; ``--json`` works anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from planner.errors import PlannerError, nearest

Command = TypeVar("Command", bound=Callable[..., Any])


class PlannerGroup(click.Group):
    """A group that reports errors of the library as a user should see them."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a `PlannerError` ends with its exit code, an operating-system error with 1."""
        try:
            return super().invoke(ctx)
        except PlannerError as error:
            _report(ctx, str(error), error.exit_code, error)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            _report(ctx, f"{place}{error.strerror or error}", 1, error)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a misspelt one is answered with the nearest."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            close = nearest(args[0], self.list_commands(ctx))
            hint = f" Did you mean {close!r}?" if close else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


def _report(ctx: click.Context, text: str, code: int, error: Exception) -> None:
    if wants_json(ctx):
        details = {"error": type(error).__name__, "message": text, "exit_code": code}
        for name in ("conflicts", "remedy", "bound"):
            value = getattr(error, name, None)
            if value:
                details[name] = list(value) if isinstance(value, tuple) else value
        click.echo(json.dumps(details))
    click.echo(f"planner: {text}", err=True)
    ctx.exit(code)


def wants_json(ctx: click.Context) -> bool:
    """Whether ``--json`` was given, before or after the command."""
    return bool(ctx.find_root().ensure_object(dict).get("json"))


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            ctx.find_root().ensure_object(dict)[name] = value

    return callback


def common_options(command: Command) -> Command:
    """Add ``--json`` and ``-v`` to a command or group."""
    command = click.option(
        "-v", "--verbose", count=True, expose_value=False, callback=_remember("verbose"), help="Say more; twice for debugging."
    )(command)
    return click.option(
        "--json", "as_json", is_flag=True, expose_value=False, is_eager=True, callback=_remember("json"),
        help="Print one JSON object on standard output.",
    )(command)  # fmt: skip
