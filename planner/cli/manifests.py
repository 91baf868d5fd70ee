"""``planner check k8s``: manifests of Kubernetes, judged without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from planner.cli.group import common_options, examples, wants_json
from planner.cli.output import print_json
from planner.errors import PlanError

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class CheckCommand(click.Command):
    """``check FILE...``, with ``check k8s FILE...`` beside it."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand what begins with ``k8s`` to its own command."""
        if args and args[0] == "k8s":
            return check_k8s.make_context(f"{info_name} k8s", args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)


@click.command(
    "k8s",
    epilog=examples(
        "planner check k8s deployment.yaml",
        "planner check k8s deployment.yaml --topology my-cluster.yaml",
        "planner check k8s deployment.yaml nodes.json --schemas schemas-of-my-cluster",
        "planner check k8s cluster.json --requirements manifests/requirements.json",
    ),
)
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...")
@click.option("--version", default="1.34", show_default=True, help="Kubernetes release of the cluster.")
@click.option("--schemas", type=FOLDER, help="Folder with core/ and crds/, to check structure as well.")
@click.option("--topology", help="Machine or cluster that the pods are to fit on.")
@click.option(
    "--target", type=FILE, help="Document target/1 with devices, scheduler and labels of the cluster."
)
@click.option(
    "--requirements", type=FILE, help="requirements.json of a bundle: say what the cluster in FILE... lacks."
)
@common_options
@click.pass_context
def check_k8s(
    ctx: click.Context,
    files: tuple[Path, ...],
    version: str,
    schemas: Path | None,
    topology: str | None,
    target: Path | None,
    requirements: Path | None,
) -> None:
    """Judge manifests as API server and scheduler would; nodes among them are the cluster."""
    from planner.deploy.apiserver import Checker, read_schemas
    from planner.deploy.judge import judge
    from planner.deploy.target import Target
    from planner.deploy.target_document import load_target
    from planner.deploy.world import cluster_objects
    from planner.schema import read_text
    from planner.schema.manifests import read_manifests
    from planner.topology import load_topology

    read = [(one, str(path)) for path in files for one in read_manifests(read_text(path), str(path))]
    objects = [one for one, _ in read]
    if requirements is not None:
        _preflight(ctx, requirements, objects)
        return
    aim = load_target(target) if target is not None else Target(version=version)
    cluster = cluster_objects(load_topology(topology), aim) if topology else []
    checker = Checker(read_schemas(schemas, aim.version)) if schemas is not None else None
    found = judge(objects, cluster, checker, [place for _, place in read])
    rows = [{"pod": one.pods.owner, "node": one.node, "devices": list(one.devices)} for one in found.landings]
    if wants_json(ctx):
        print_json(
            {"ok": not found.problems, "objects": len(objects), "problems": found.problems, "pods": rows}
        )
    else:
        for row in rows:
            if row["node"] is not None:
                click.echo(f"{row['pod']}: {row['node']} {' '.join(row['devices'])}".rstrip())  # type: ignore[arg-type]
        for problem in found.problems:
            click.echo(problem, err=True)
        if not found.problems:
            click.echo(f"{len(objects)} objects: ok")
    if found.problems:
        ctx.exit(PlanError.exit_code)


def _preflight(ctx: click.Context, path: Path, objects: list[dict[str, Any]]) -> None:
    """Print what a cluster lacks of the requirements of a bundle, and what its dump does not show."""
    from planner.deploy.preflight import preflight
    from planner.schema import read_text
    from planner.schema.foreign import read_foreign_json

    needs = read_foreign_json(read_text(path), str(path))
    found = preflight(needs, objects)
    if wants_json(ctx):
        print_json({"ok": not found.lacking, "lacking": found.lacking, "not looked at": found.unseen})
    else:
        for text in found.lacking:
            click.echo(text, err=True)
        for text in found.unseen:
            click.echo(f"not looked at: {text}", err=True)
        if not found.lacking:
            click.echo("the cluster has what the bundle needs")
    if found.lacking:
        ctx.exit(PlanError.exit_code)
