"""``planner topology import``, ``merge`` and ``export``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.cli.group import common_options, examples, wants_json
from planner.cli.output import print_json
from planner.cli.places import check_file

if TYPE_CHECKING:
    from planner.topology import TopologyDocument
    from planner.topology.importers.views import HostView

FILES = click.Path(exists=True, path_type=Path)
OUT = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "import",
    epilog=examples(
        "planner topology import topo.txt query.xml -o my-node.yaml",
        "planner topology import topo.txt --device h100-sxm-80 --name my-node",
    ),
)
@click.argument("files", type=FILES, nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--output", type=OUT, help="File to write instead of standard output.")
@click.option("--name", help="Name of the machine; that of the first file when absent.")
@click.option("--device", help="Device model of the GPUs whose product no file tells.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@common_options
@click.pass_context
def import_command(
    ctx: click.Context, files: tuple[Path, ...], output: Path | None, name: str | None,
    device: str | None, force: bool,
) -> None:  # fmt: skip
    """Turn what tools say about one machine into a topology; several FILEs are merged."""
    check_file(output, force=force)
    _import(ctx, files, output, name, device)


@click.command(
    "merge", epilog=examples("planner topology merge topo.txt query.xml lstopo.xml -o my-node.yaml")
)
@click.argument("files", type=FILES, nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--output", type=OUT, required=True, help="File to write.")
@click.option("--name", help="Name of the machine; that of the first file when absent.")
@click.option("--device", help="Device model of the GPUs whose product no file tells.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@common_options
@click.pass_context
def merge_command(
    ctx: click.Context, files: tuple[Path, ...], output: Path, name: str | None, device: str | None,
    force: bool,
) -> None:  # fmt: skip
    """Join several views of one machine into one topology; contradictions are reported with both sources."""
    check_file(output, force=force)
    _import(ctx, files, output, name, device)


@click.command("export", epilog=examples("planner topology export dgx-h100 --format nccl -o topo.xml"))
@click.argument("topology")
@click.option(
    "--format", "form", type=click.Choice(["nccl"]), default="nccl", show_default=True, help="What to write."
)
@click.option("-o", "--output", type=OUT, help="File to write instead of standard output.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@common_options
@click.pass_context
def export_command(ctx: click.Context, topology: str, form: str, output: Path | None, force: bool) -> None:
    """Write TOPOLOGY, a file or the name of a preset, as NCCL loads it (NCCL_TOPO_FILE)."""
    from planner.schema import write_text_atomic
    from planner.topology import load_topology
    from planner.topology.importers.nccl_export import to_nccl_xml

    check_file(output, force=force)
    text = to_nccl_xml(load_topology(topology).document)
    if output is not None:
        write_text_atomic(output, text)
    if wants_json(ctx):
        print_json({"format": form, "output": None if output is None else str(output)})
    elif output is not None:
        click.echo(str(output))
    else:
        click.echo(text, nl=False)


def _import(
    ctx: click.Context, files: Sequence[Path], output: Path | None, name: str | None, device: str | None
) -> None:
    """Read, merge, write, and say on standard error what was repaired and what is assumed."""
    from planner.schema import dump_yaml, plain, write_text_atomic

    document, formats, doubts, notes = _read(files, name, device)
    for doubt in doubts:
        click.echo(f"planner: warning: {doubt}", err=True)
    for note in notes:
        click.echo(f"planner: note: {note}", err=True)
    if output is not None:
        write_text_atomic(output, dump_yaml(document))
    if wants_json(ctx):
        summary = {
            "formats": formats, "warnings": doubts, "notes": notes,
            "output": None if output is None else str(output), "topology": plain(document),
        }  # fmt: skip
        print_json(summary)
    elif output is not None:
        click.echo(str(output))
    else:
        click.echo(dump_yaml(document), nl=False)


def _read(
    files: Sequence[Path], name: str | None, device: str | None
) -> tuple[TopologyDocument, list[str], list[str], list[str]]:
    """Return the topology, the formats of the files, what was doubtful and what is assumed."""
    from planner.topology import catalogue
    from planner.topology.importers.detect import carried, read
    from planner.topology.importers.document import described
    from planner.topology.importers.merge import merge
    from planner.topology.importers.refusal import ImportRefusedError
    from planner.topology.importers.views import FabricView

    if len(files) == 1 and (whole := carried(files[0])) is not None:
        return whole, ["planner"], [], []
    views: list[HostView] = []
    for file in files:
        view = read(file)
        if isinstance(view, FabricView):
            raise ImportRefusedError(
                str(file), 0,
                f"a fabric of {len(view.switches)} switches and {len(view.nodes)} nodes, not a machine; "
                "import a machine of it, and describe the fabric under 'fabric'",
            )  # fmt: skip
        views.append(view)
    merged = merge(views, [str(file) for file in files]) if len(views) > 1 else views[0]
    document, notes = described(merged, name or _name(files[0]), catalogue(), device)
    doubts = [
        f"{files[0]}:{remark.line}: {remark.text}"
        if len(views) == 1 and remark.line
        else _said(remark.text, files)
        for remark in merged.remarks
    ]
    return document, [view.format for view in views], doubts, list(notes)


def _said(text: str, files: Sequence[Path]) -> str:
    return f"{files[0]}: {text}" if len(files) == 1 else text


def _name(file: Path) -> str:
    """Return a name for a machine after a file."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", file.name.split(".")[0] or file.resolve().name).strip("-._")
    return plain or "machine"
