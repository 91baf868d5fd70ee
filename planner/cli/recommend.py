"""``planner recommend``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from planner.cli.group import common_options, examples, verbosity, wants_json
from planner.cli.options import (
    calibration_option,
    parallel_options,
    price_option,
    seed_option,
    time_limit_option,
)
from planner.cli.output import print_json, print_summary
from planner.cli.quantities import seconds
from planner.cli.scenarios import running, write_figures
from planner.report.recommend import (
    recommendation_figures,
    recommendation_json,
    recommendation_rows,
    recommendation_summary,
)
from planner.report.rows import png_files, rows_csv
from planner.schema import dump_yaml, write_text_atomic
from planner.study.recommend import FABRIC, Question, Recommendation, load_block, recommend
from planner.study.whatif import Options

Counted = list[tuple[str, int | None]]


def _blocks(ctx: click.Context, param: click.Parameter, value: str) -> Counted:
    """Return names of blocks with the most of each from ``NAME[:MOST],...``."""
    found: Counted = []
    for text in value.split(","):
        name, _, most = text.strip().rpartition(":") if ":" in text else (text.strip(), "", "")
        if not name or (most and not (most.isdigit() and int(most))):
            raise click.BadParameter(f"{text!r} is not BLOCK or BLOCK:MOST", ctx, param)
        found.append((name, int(most) if most else None))
    return found


def _loads(ctx: click.Context, param: click.Parameter, value: str) -> tuple[float, ...]:
    """Return factors from ``2x``, ``1x,2x,4x`` or ``1x..4x``, which has two entries, lowest first."""
    try:
        ends = [
            tuple(float(one.strip().removesuffix("x")) for one in part.split(".."))
            for part in value.split(",")
        ]
    except ValueError:
        ends = [()]
    if any(not part or len(part) > 2 or not 0.0 < part[0] <= part[-1] < float("inf") for part in ends):
        raise click.BadParameter(f"{value!r} is not a load such as 2x, 1x,2x,4x or 1x..4x", ctx, param)
    found: list[float] = []
    for part in ends:
        steps = ctx.params["steps"] if len(part) == 2 else 1
        found += [float(f"{load:.6g}") for load in np.linspace(part[0], part[-1], steps)]
    return tuple(found)


def _time(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    return None if value is None else seconds(ctx, param, value)


@click.command(
    "recommend",
    epilog=examples(
        "planner recommend llama3-70b-serving --blocks dgx-h100,hgx-h200,dgx-b200 --load 1x..6x",
        "planner recommend chat.yaml --blocks dgx-h100:4,gh200-quad --by cost --price dgx-h100=98 "
        "--price gh200-quad=30",
        "planner recommend llama3-70b-training --blocks dgx-h100 --within 20s --max-nodes 16",
    ),
)
@click.argument("workload")
@click.option(
    "--blocks",
    required=True,
    callback=_blocks,
    metavar="BLOCK[:MOST],...",
    help="Machines or clusters to build from: files or presets, each with the most that there may be.",
)
@click.option(
    "--steps",
    default=4,
    show_default=True,
    is_eager=True,
    type=click.IntRange(min=2),
    help="Loads that a range is cut into.",
)
@click.option(
    "--load",
    "loads",
    default="1x",
    show_default=True,
    callback=_loads,
    metavar="LOAD",
    help="Factors of the stated traffic: 2x, 1x,2x,4x or 1x..4x.",
)
@click.option(
    "--by",
    default="gpus",
    show_default=True,
    type=click.Choice(["gpus", "nodes", "cost"]),
    help="What is to be least.",
)
@click.option("--max-nodes", default=8, show_default=True, type=click.IntRange(min=1), help="Most nodes.")
@click.option("--mix", is_flag=True, help="Look at clusters of several kinds of blocks too.")
@price_option
@click.option(
    "--within", callback=_time, metavar="TIME", help="Limit on the step of jobs that are no services."
)
@click.option("--fabric", default=FABRIC, show_default=True, help="Cluster whose fabric joins bare machines.")
@click.option(
    "--requests",
    default=4000,
    show_default=True,
    type=click.IntRange(min=100),
    help="Requests per service that a simulation draws.",
)
@time_limit_option("Time for the search of one cluster, seconds.", default=30.0)
@seed_option()
@calibration_option
@parallel_options
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of results and cache.  [default: out/WORKLOAD-clusters]",
)
@common_options
@click.pass_context
def recommend_command(
    ctx: click.Context,
    /,
    workload: str,
    blocks: Counted,
    loads: tuple[float, ...],
    output: Path | None,
    processes: int | None,
    cluster: str | None,
    **asked: Any,
) -> None:
    """Find the smallest or cheapest cluster that holds the limits of WORKLOAD, and how much load it carries.

    Every cluster of one block is solved and simulated, from one node upwards, until the simulated limits
    hold; what is smaller was refused, on paper or by simulating every strategy. Leaves clusters.csv, figures
    and the topology of each recommended cluster in a folder; what is there already is not worked out again.
    """
    question = _question(workload, blocks, loads, asked)
    folder = output or Path("out") / f"{Path(workload).stem}-clusters"
    with running(folder, processes, cluster, verbosity(ctx)) as runner:
        found = recommend(question, runner)
    written = _write(found, folder)
    if not any(found.choices(load) for load in found.loads):
        found.best(found.loads[0])
    if wants_json(ctx):
        print_json(recommendation_json(found) | {"counts": vars(runner.counts)})
        return
    print_summary(recommendation_summary(found), verbosity(ctx))
    click.echo(f"Written to {folder}/: {', '.join(written)}, scenarios/")


def _question(workload: str, blocks: Counted, loads: tuple[float, ...], asked: dict[str, Any]) -> Question:
    prices, most = asked["prices"], asked["max_nodes"]
    unknown = sorted(set(prices) - {Path(name).stem for name, _ in blocks})
    if unknown:
        raise click.UsageError(f"--price names {', '.join(unknown)}, which is not among --blocks")
    chosen = tuple(load_block(name, limit, prices.get(Path(name).stem), most) for name, limit in blocks)
    options = Options(
        time_limit=asked["time_limit"], seed=asked["seed"], requests=asked["requests"], hold_limits=True
    )
    return Question(
        workload, chosen, asked["by"], loads, asked["within"], most, asked["mix"], asked["fabric"],
        asked["calibration"], options=options,
    )  # fmt: skip


def _write(found: Recommendation, folder: Path) -> list[str]:
    write_text_atomic(folder / "clusters.csv", rows_csv(recommendation_rows(found)))
    written = ["clusters.csv"]
    for load in found.loads:
        if found.choices(load):
            written.append(f"topology-{load:g}x.yaml")
            write_text_atomic(folder / written[-1], dump_yaml(found.topology(load)))
    return written + write_figures(folder, png_files(recommendation_figures(found)))
