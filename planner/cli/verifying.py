"""``planner verify``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.cli.group import common_options, examples, moved_inputs, verbosity, wants_json
from planner.cli.interrupts import interrupts
from planner.cli.measuring import measuring
from planner.cli.output import print_json, print_table, stdout_console
from planner.cli.places import check_file
from planner.cli.quantities import seconds

if TYPE_CHECKING:
    from planner.calibrate.run.backend import Backend

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.Path(dir_okay=False, path_type=Path)
NOTE = b"planner: stopping; what was measured is kept (interrupt again to end at once)\n"


@click.command(
    "verify",
    epilog=examples(
        "planner verify out/plan.yaml --budget 2min -o verification.yaml",
        "torchrun --nproc-per-node 8 -m planner verify out/plan.yaml",
        "planner verify out/plan.yaml --device cpu --refreshed my-host-2.yaml",
    ),
)
@click.argument("plan", type=EXISTING)
@click.option(
    "--budget", default="45s", show_default=True, callback=seconds, help="Time for all measurements."
)
@click.option(
    "--device", type=click.Choice(["cuda", "cpu"]), help="What to run on; that of the plan when absent."
)
@click.option(
    "--processes", type=click.IntRange(min=1), help="Ranks to start; as many as the plan wants here."
)
@click.option(
    "--tolerance", default=0.2, show_default=True, type=click.FloatRange(min=0.0, min_open=True),
    help="Median error up to which the plan holds.",
)  # fmt: skip
@click.option("-o", "--output", type=OUT, help="Verification to write (verification/1).")
@click.option("--refreshed", type=OUT, help="Calibration to write, fitted to what was measured as well.")
@click.option("--samples", type=EXISTING, help="Samples of the plan's calibration; else those beside it.")
@click.option(
    "--force", is_flag=True, help="Replace files; accept inputs that changed since the plan was made."
)
@moved_inputs
@common_options
@click.pass_context
def verify_command(
    ctx: click.Context, plan: Path, budget: float, device: str | None, processes: int | None,
    tolerance: float, output: Path | None, refreshed: Path | None, samples: Path | None, force: bool,
    topology: str | None, workload: str | None, calibration: str | None,
) -> None:  # fmt: skip
    """Run the parts of PLAN on the devices at hand: predicted against measured, and what stays unverified.

    Stages are built with the plan's dimensions and random weights; with fewer devices than planned, one of
    each kind runs. Starts the processes that it needs, or is started by torchrun. Needs torch.
    """
    from planner.calibrate.run.backend import backend_for
    from planner.calibrate.run.catalogue import HOST_CORES
    from planner.calibrate.run.runner import Rules
    from planner.calibrate.run.team import launched
    from planner.calibrate.verify import VerifyRules
    from planner.report.measured import verification_table
    from planner.schema import dump_yaml, plain, write_text_atomic
    from planner.study import load_study
    from planner.study.verify import samples_beside, verify_study

    for place in (output, refreshed):
        check_file(place, force=force)
    study = load_study(plan, topology=topology, workload=workload, calibration=calibration, force=force)
    own = {study.topology.device(gpu).name for job in study.plan.jobs for gpu in job.gpus()}
    kind = device or ("cpu" if own <= HOST_CORES else "cuda")
    local = int(os.environ.get("LOCAL_RANK", "0")) if kind == "cuda" else 0
    backend = backend_for("cpu" if kind == "cpu" else "cuda", index=local)
    if launched() and int(os.environ["RANK"]):
        _follow(backend)
        return
    reference = study.plan.inputs.calibration.path
    if samples is None and reference is not None:
        beside = samples_beside(plan.parent / reference)
        samples = beside if beside.is_file() else None
    world = int(os.environ["WORLD_SIZE"]) if launched() else processes
    with interrupts(NOTE) as signals, measuring("verifying", verbosity(ctx)) as shown:
        rules = VerifyRules(Rules(budget, signals.stopped, shown), tolerance, world)
        found = verify_study(study, backend, rules, samples, refresh=refreshed is not None)
    if output is not None:
        write_text_atomic(output, dump_yaml(found.verification))
    if refreshed is not None and found.calibration is not None:
        write_text_atomic(refreshed, dump_yaml(found.calibration))
        write_text_atomic(samples_beside(refreshed), dump_yaml(found.samples))
    if wants_json(ctx):
        result = found.verification
        rows = [{**plain(row), "error": row.error} for row in result.rows]
        print_json(
            {**plain(result), "rows": rows, "median_error": result.median_error, "verdict": result.verdict,
             "refreshed": None if refreshed is None or found.calibration is None else str(refreshed)}
        )  # fmt: skip
        return
    print_table(stdout_console(), verification_table(found.verification))
    for path in (output, refreshed):
        if path is not None and path.is_file():
            click.echo(f"Written to {path}")


def _follow(backend: Backend) -> None:
    """Take part as one of the ranks that a launcher started; rank 0 says what came out."""
    from planner.calibrate.run.team import follow

    follow(backend, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
