"""``planner agent``: what runs on every node of a cluster, and beside its scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.cli.group import common_options, examples
from planner.cli.probing import describe, probe_options

if TYPE_CHECKING:
    from planner.deploy.agent.server import Guard, Route

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    "agent",
    epilog=examples(
        "planner agent --once",
        "planner agent --port 9410 --expected dgx-h100 --labels /features.d/planner",
        "planner agent --extender --plan out/plan.yaml --port 9411 --token-file /run/token",
    ),
)
@click.option("--once", is_flag=True, help="Describe this node as a topology, then end.")
@click.option("--extender", is_flag=True, help="Answer a scheduler: filter and prioritise nodes by a plan.")
@click.option("--plan", type=FILE, help="Plan that the extender follows.")
@click.option("--address", default="0.0.0.0", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9410, show_default=True, help="Port to listen on."
)
@click.option("--interval", type=click.FloatRange(1, 86400), default=60.0, show_default=True,
              help="Seconds between probes.")  # fmt: skip
@click.option(
    "--expected",
    help="Machine, or cluster with this node, that it should be; links that it lacks are reported.",
)
@click.option("--labels", type=click.Path(dir_okay=False, path_type=Path),
              help="Feature file of NFD to write labels to.")  # fmt: skip
@click.option("--domain", default="planner.example.org", show_default=True, help="Domain of these labels.")
@click.option("--token-file", type=FILE, help="File with the bearer token that requests must show.")
@click.option("--certificate", type=FILE, help="Certificate of the server, PEM; needs --key.")
@click.option("--key", type=FILE, help="Key of the certificate, PEM.")
@click.option("--topology", help="Topology of the plan, if it moved.")
@probe_options
@common_options
@click.pass_context
def agent_command(
    ctx: click.Context, once: bool, extender: bool, plan: Path | None, address: str, port: int,
    interval: float, expected: str | None, labels: Path | None, domain: str, token_file: Path | None,
    certificate: Path | None, key: Path | None, topology: str | None, output: Path | None, name: str | None,
    device: str | None, root: Path, force: bool,
) -> None:  # fmt: skip
    """Watch the node that it runs on and serve what it finds; or help the scheduler to follow a plan."""
    if once:
        describe(ctx, output, name, device, root, force=force)
        return
    guard = _guard(token_file, certificate, key)
    if extender:
        from planner.deploy.agent.extender import routes, rules
        from planner.study import load_study

        if plan is None:
            raise click.UsageError("--extender needs --plan", ctx)
        study = load_study(plan, topology=topology)
        _serve((address, port), routes(rules(study.plan, study.topology)), guard)
        return
    from planner.cli.probing import host_name
    from planner.deploy.agent.reading import machine_of
    from planner.deploy.agent.watch import Watch, watched
    from planner.topology import load_topology

    own = name or host_name()
    machine = machine_of(load_topology(expected), own) if expected else None
    watch = Watch(root, own, device, machine, labels, domain)
    with watched(watch, interval):
        _serve((address, port), watch.routes(), guard)


def _guard(token_file: Path | None, certificate: Path | None, key: Path | None) -> Guard:
    from planner.deploy.agent.server import Guard
    from planner.schema import read_text

    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key go together")
    token = read_text(token_file).strip() if token_file is not None else None
    if token == "":
        raise click.UsageError(f"{token_file} is empty")
    return Guard(token, certificate, key)


def _serve(where: tuple[str, int], routes: Mapping[tuple[str, str], Route], guard: Guard) -> None:
    """Answer requests until a signal ends the process."""
    import signal
    import threading

    from planner.deploy.agent.server import make_server

    try:
        server = make_server(where, routes, guard)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {where[0]}:{where[1]}: {error}") from None
    # shutdown() waits for the loop that the signal interrupted, so another thread calls it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
    click.echo(f"planner: listening on {server.server_address[0]!s}:{server.server_address[1]}", err=True)
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        server.server_close()
