"""``planner topology list`` and ``planner topology show``."""

from __future__ import annotations

from pathlib import Path

import click

from planner import units
from planner.cli.group import PlannerGroup, common_options, examples, wants_json
from planner.cli.importing import export_command, import_command, merge_command
from planner.cli.output import print_json, print_table, stdout_console
from planner.cli.places import check_file
from planner.cli.probing import probe_command
from planner.report import Table, topology_svg, topology_text
from planner.schema import presets, write_bytes_atomic
from planner.topology import Topology, load_topology


@click.group("topology", cls=PlannerGroup)
@common_options
def topology_group() -> None:
    """List, show, import and export machines and clusters."""


for command in (import_command, probe_command, merge_command, export_command):
    topology_group.add_command(command)


@topology_group.command("list", epilog=examples("planner topology list"))
@common_options
@click.pass_context
def list_command(ctx: click.Context) -> None:
    """List the shipped machines and clusters."""
    shipped = [load_topology(name) for name in presets.names("topologies")]
    if wants_json(ctx):
        print_json({"topologies": [_facts(topology) for topology in shipped]})
        return
    columns = ("name", "nodes", "GPUs", "host", "widest GPU link")
    rows = tuple(_row(topology) for topology in shipped)
    print_table(stdout_console(), Table("", columns, rows))


def _row(topology: Topology) -> tuple[str, ...]:
    facts = _facts(topology)
    rate = "-" if facts["gpu_rate"] is None else units.show(float(str(facts["gpu_rate"])), "bytes/s")
    return str(facts["name"]), str(facts["nodes"]), str(facts["gpus"]), str(facts["arch"]), rate


def _facts(topology: Topology) -> dict[str, object]:
    devices: dict[str, int] = {}
    for node in topology.nodes:
        for gpu in node.machine.gpus:
            devices[gpu.device] = devices.get(gpu.device, 0) + 1
    levels = topology.hierarchy.levels if topology.gpus else ()
    rate = levels[0].rate if levels and levels[0].rate < float("inf") else None
    return {
        "name": topology.name,
        "description": topology.document.description,
        "nodes": len(topology.nodes),
        "gpus": ", ".join(f"{count} x {name}" for name, count in devices.items()) or "none",
        "arch": ", ".join(dict.fromkeys(d.arch for machine in topology.machine_types for d in machine.numa)),
        "gpu_rate": rate,
    }


@topology_group.command(
    "show",
    epilog=examples(
        "planner topology show dgx-h100",
        "planner topology show my-cluster.yaml --format svg -o cluster.svg",
        "planner topology show dgx-h100-x8 --format png",
    ),
)
@click.argument("topology")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "svg", "png"]),
    default="text",
    show_default=True,
    help="Form of the picture.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write instead of standard output; a png goes to NAME.png when absent.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@common_options
@click.pass_context
def show_command(ctx: click.Context, topology: str, form: str, output: Path | None, force: bool) -> None:
    """Draw TOPOLOGY, a file or the name of a preset."""
    check_file(output, force=force)
    machine = load_topology(topology)
    as_json = wants_json(ctx)
    if output is None and form == "png" and not as_json:
        output = Path(f"{machine.name}.png")
        check_file(output, force=force)
    if output is not None:
        write_bytes_atomic(output, _picture(machine, form))
    if as_json:
        print_json(_facts(machine) | {"output": None if output is None else str(output)})
    else:
        click.echo(_picture(machine, form).decode() if output is None else str(output))


def _picture(machine: Topology, form: str) -> bytes:
    if form == "png":
        from planner.report.topology_view_png import topology_png

        return topology_png(machine)
    return (topology_svg(machine) if form == "svg" else topology_text(machine)).encode()
