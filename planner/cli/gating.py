"""``planner gate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from planner.cli.group import common_options, examples, wants_json
from planner.cli.output import print_json, print_table, stdout_console
from planner.cli.places import check_file
from planner.errors import GateError
from planner.report.gate import gate_junit, gate_markdown, gate_table
from planner.schema import load, write_text_atomic
from planner.study.gates import Gates, Prometheus, default_gates, judge, load_evidence

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "gate",
    epilog=examples(
        "planner gate out/plan.yaml simulation.yaml --baseline main/simulation.yaml",
        "planner gate out/plan.yaml --gates gates.yaml --prometheus http://prometheus:9090 --junit gate.xml",
    ),
)
@click.argument("files", type=EXISTING, nargs=-1, metavar="[FILE]...")
@click.option("--gates", "gates_file", type=EXISTING, help="Checks and limits (gates/1); else sensible ones.")
@click.option(
    "--baseline", "baselines", type=EXISTING, multiple=True,
    help="A stored document to compare with; repeat for several kinds.",
)  # fmt: skip
@click.option("--prometheus", "url", help="Address of a Prometheus server for checks with a query.")
@click.option("--token", envvar="PLANNER_PROMETHEUS_TOKEN", default="", help="Bearer token for the server.")
@click.option(
    "--timeout",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Longest wait for an answer, s.",
)
@click.option("--junit", type=FILE, help="Where to write the outcomes for a pipeline (XML).")
@click.option("--markdown", type=FILE, help="Where to write them for a pull request.")
@click.option("--force", is_flag=True, help="Replace files.")
@common_options
@click.pass_context
def gate_command(
    ctx: click.Context,
    files: tuple[Path, ...],
    gates_file: Path | None,
    baselines: tuple[Path, ...],
    url: str | None,
    token: str,
    timeout: float,
    junit: Path | None,
    markdown: Path | None,
    force: bool,
) -> None:
    """Compare a plan, a simulation, a calibration or live metrics with limits and a baseline.

    FILE is a plan, a simulation, a calibration or a verification, one of each at most. Exit code 5 when a
    check fails or finds no figure.
    """
    if not files and url is None:
        raise click.UsageError("Give a document to check, or a server with --prometheus.", ctx)
    for place in (junit, markdown):
        check_file(place, force=force)
    evidence = load_evidence(files)
    before = load_evidence(baselines) if baselines else None
    if gates_file is not None:
        gates = load(gates_file, Gates)
    else:
        gates = default_gates(set(evidence.documents), baseline=before is not None, live=url is not None)
    verdict = judge(gates, evidence, before, Prometheus(url, timeout, token) if url else None)
    if junit is not None:
        write_text_atomic(junit, gate_junit(verdict))
    if markdown is not None:
        write_text_atomic(markdown, gate_markdown(verdict))
    if wants_json(ctx):
        print_json(
            {"gate": verdict.name, "ok": verdict.ok, "checks": [asdict(one) for one in verdict.outcomes]}
        )
    else:
        print_table(stdout_console(), gate_table(verdict))
    if not verdict.ok:
        names = ", ".join(one.name for one in verdict.failures)
        if not wants_json(ctx):
            click.echo(f"planner: gate {verdict.name!r} failed: {names}", err=True)
        ctx.exit(GateError.exit_code)
