"""``planner agent``: what runs on every node of a cluster."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.group import common_options, examples
from planner.cli.probing import describe, probe_options


@click.command(
    "agent",
    epilog=examples("planner agent --once", "planner agent --once --root /host -o /out/this-node.yaml"),
)
@click.option("--once", is_flag=True, help="Describe this node as a topology, then end.")
@probe_options
@common_options
@click.pass_context
def agent_command(
    ctx: click.Context, once: bool, output: Path | None, name: str | None, device: str | None, root: Path,
    force: bool,
) -> None:  # fmt: skip
    """Describe the node that it runs on: its processors, memory, GPUs, adapters and links."""
    if not once:
        raise click.UsageError(
            "the agent can describe this node once: say --once; it does not stay resident yet", ctx
        )
    describe(ctx, output, name, device, root, force=force)
