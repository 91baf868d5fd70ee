"""The command group: planner errors become a message and an exit code; ``--json`` works anywhere."""

from __future__ import annotations

import errno
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import click

from planner.errors import DocumentError, InfeasibleError, NoPlanError, PlannerError, nearest

Command = TypeVar("Command", bound=Callable[..., Any])
CALLED = "planner.called"
"""Key of a context's notes under which the name of the called command is."""


class PlannerGroup(click.Group):
    """A group that reports errors of the library as a user should see them."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a `PlannerError` ends with its exit code, an operating-system error with 1."""
        if "--json" in ctx.args:
            _keep(ctx, "json", True)
        try:
            return super().invoke(ctx)
        except PlannerError as error:
            _report(ctx, error, message_of(error), error.exit_code)
        except KeyboardInterrupt:
            interrupted = NoPlanError("interrupted; nothing was written")
            solving = ctx.meta.get(CALLED) == "solve"
            code = interrupted.exit_code if solving else PlannerError.exit_code
            _report(ctx, interrupted, message_of(interrupted), code)
        except click.ClickException as error:
            if wants_json(ctx) and ctx.parent is None:
                click.echo(json.dumps(_as_object(error, error.format_message(), error.exit_code)))
            raise
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            place = f"{error.filename}: " if error.filename else ""
            _report(ctx, error, f"planner: {place}{error.strerror or error}", PlannerError.exit_code)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a misspelt one is answered with the nearest."""
        ctx.meta[CALLED] = args[0] if args else None  # before its import, which can be interrupted
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            known = self.list_commands(ctx)
            close = nearest(args[0], known)
            hint = f"Did you mean {close!r}?" if close else f"Known: {', '.join(known)}."
            raise click.UsageError(f"No such command {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


def message_of(error: PlannerError) -> str:
    """Return what a person reads: problems of documents a line each, an infeasible problem in its parts."""
    if isinstance(error, DocumentError):
        return str(error)
    text = str(error)
    if isinstance(error, InfeasibleError):
        text = text.replace("; in conflict: ", "\n  in conflict: ")
        if error.remedy:
            text = text.replace(f"; {error.remedy}", f"\n  {error.remedy}")
    return f"planner: {text}"


def _report(ctx: click.Context, error: Exception, text: str, code: int) -> None:
    if wants_json(ctx):
        click.echo(json.dumps(_as_object(error, str(error), code)))
    if verbosity(ctx) > 1:
        traceback.print_exception(error, file=sys.stderr)
    click.echo(text, err=True)
    ctx.exit(code)


def _as_object(error: Exception, text: str, code: int) -> dict[str, object]:
    """Return an error as the JSON object that is printed in place of a result."""
    found: dict[str, object] = {"error": type(error).__name__, "message": text, "exit_code": code}
    if isinstance(error, DocumentError):
        found["problems"] = [vars(problem) for problem in error.problems]
    for name in ("conflicts", "remedy", "bound"):
        value = getattr(error, name, None)
        if value:
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def wants_json(ctx: click.Context) -> bool:
    """Whether ``--json`` was given, before or after the command."""
    return bool(ctx.find_root().ensure_object(dict).get("json"))


def verbosity(ctx: click.Context) -> int:
    """Return how often ``-v`` was given."""
    return int(ctx.find_root().ensure_object(dict).get("verbose", 0))


def _keep(ctx: click.Context, name: str, value: object) -> None:
    ctx.find_root().ensure_object(dict)[name] = value


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            _keep(ctx, name, value)

    return callback


def common_options(command: Command) -> Command:
    """Add ``--json`` and ``-v`` to a command or group."""
    command = click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        is_eager=True,
        callback=_remember("verbose"),
        help="Say more on standard error; twice: with tracebacks.",
    )(command)
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_remember("json"),
        help="Print one JSON object on standard output.",
    )(command)


def moved_inputs(command: Command) -> Command:
    """Add the options that say where the inputs of a plan are now."""
    for name in ("calibration", "workload", "topology"):
        command = click.option(f"--{name}", help=f"The {name} of the plan, if it moved.")(command)
    return command


def examples(*lines: str) -> str:
    """Return the epilog of a command's help: calls to copy."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
