"""``planner topology import``, ``merge`` and ``export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from planner.cli.group import common_options, examples, wants_json
from planner.cli.output import print_json
from planner.cli.places import check_file

FILES = click.Path(exists=True, path_type=Path)
OUT = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "import",
    epilog=examples(
        "planner topology import topo.txt query.xml -o my-node.yaml",
        "planner topology import topo.txt --device h100-sxm-80 --name my-node",
        "planner topology import topo.txt query.xml topology.conf -o my-cluster.yaml",
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
    """Turn what tools say about a machine into a topology; FILEs are merged, with a fabric into a cluster."""
    check_file(output, force=force)
    _import(ctx, files, output, name, device)


@click.command(
    "merge",
    epilog=examples(
        "planner topology merge topo.txt query.xml lstopo.xml -o my-node.yaml",
        "planner topology merge node-0.xml node-1.xml ibnetdiscover.out -o my-cluster.yaml",
    ),
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
    """Join several views of one machine, or nodes and their fabric, into one topology.

    Contradictions are reported with both sources. With a fabric (ibnetdiscover, SLURM, Topograph, Kubernetes
    nodes) among the files the others describe its nodes: files named after a node describe that one.
    """
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
    from planner.topology.importers.assemble import assemble

    found = assemble(files, name, device)
    document = found.document
    for doubt in found.doubts:
        click.echo(f"planner: warning: {doubt}", err=True)
    for note in found.notes:
        click.echo(f"planner: note: {note}", err=True)
    if output is not None:
        write_text_atomic(output, dump_yaml(document))
    if wants_json(ctx):
        summary = {
            "formats": list(found.formats), "warnings": list(found.doubts), "notes": list(found.notes),
            "output": None if output is None else str(output), "topology": plain(document),
        }  # fmt: skip
        print_json(summary)
    elif output is not None:
        click.echo(str(output))
    else:
        click.echo(dump_yaml(document), nl=False)
