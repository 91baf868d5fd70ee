"""``planner topology probe``, and what else describes the machine at hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from planner.cli.group import common_options, examples, wants_json
from planner.cli.output import print_json
from planner.cli.places import check_file

if TYPE_CHECKING:
    from planner.topology.importers.views import HostView


Command = TypeVar("Command", bound=Callable[..., None])


def probe_options(command: Command) -> Command:
    """Add the options of what describes the machine at hand."""
    for option in reversed(
        (
            click.option(
                "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
                help="File to write the topology to.",
            ),
            click.option("--name", help="Name of the machine; its host name when absent."),
            click.option("--device", help="Device model of the GPUs whose product is unknown."),
            click.option(
                "--root", default="/", type=click.Path(exists=True, file_okay=False, path_type=Path),
                show_default=True, help="Where sys and proc of the host are mounted.",
            ),
            click.option("--force", is_flag=True, help="Replace the file if it exists."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(
    "probe", epilog=examples("planner topology probe", "planner topology probe -o this-machine.yaml")
)
@probe_options
@common_options
@click.pass_context
def probe_command(
    ctx: click.Context, output: Path | None, name: str | None, device: str | None, root: Path, force: bool
) -> None:
    """Describe the machine at hand, with or without GPUs, also from inside a container."""
    describe(ctx, output, name, device, root, force=force)


def describe(
    ctx: click.Context, output: Path | None, name: str | None, device: str | None, root: Path, *, force: bool
) -> None:
    """Probe the machine at hand and write or print its topology."""
    from planner.schema import dump_yaml, plain, write_text_atomic
    from planner.topology import catalogue
    from planner.topology.importers.document import described
    from planner.topology.importers.probe import probe

    check_file(output, force=force)
    view = probe(root)
    document, notes = described(view, name or host_name(), catalogue(), device)
    doubts = [remark.text for remark in view.remarks]
    for kind, lines in (("warning", doubts), ("note", notes)):
        for line in lines:
            click.echo(f"planner: {kind}: {line}", err=True)
    text = dump_yaml(document)
    if output is not None:
        write_text_atomic(output, text)
    if wants_json(ctx):
        found = {"facts": _facts(view), "warnings": doubts, "notes": list(notes), "topology": plain(document)}
        print_json(found | {"output": None if output is None else str(output)})
    elif output is not None:
        click.echo(str(output))
    else:
        click.echo(text, nl=False)


def host_name() -> str:
    """Return the name of this host as a document may have it."""
    import socket

    return re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("-._") or "machine"


def _facts(view: HostView) -> dict[str, object]:
    return {
        "arch": view.arch,
        "cpu": view.cpu,
        "packages": view.packages,
        "cores": view.cores,
        "processors": view.processors,
        "numa": len(view.numa),
        "gpus": [gpu.product for gpu in view.gpus],
        "nics": [nic.name for nic in view.nics],
        "driver": view.driver,
    }
