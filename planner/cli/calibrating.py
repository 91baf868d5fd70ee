"""``planner calibrate``: run, import, fit, show."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.group import PlannerGroup, common_options, examples, verbosity, wants_json
from planner.cli.interrupts import interrupts
from planner.cli.measuring import measuring
from planner.cli.output import print_json, print_table, stdout_console
from planner.cli.places import check_file
from planner.cli.quantities import seconds

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.Path(dir_okay=False, path_type=Path)
DEVICE = click.Choice(["cuda", "cpu"])


@click.group("calibrate", cls=PlannerGroup)
def calibrate_group() -> None:
    """Measure a host and its devices, read other tools' measurements, and fit coefficients to them."""


@calibrate_group.command(
    "run",
    epilog=examples(
        "planner calibrate run --budget 60s -o my-host.yaml",
        "planner calibrate run --device cpu -o my-host.yaml",
        "planner calibrate run -o my-host.yaml --resume --budget 5min",
    ),
)
@click.option(
    "--budget", default="60s", show_default=True, callback=seconds, help="Time for all measurements."
)
@click.option("--device", type=DEVICE, default="cuda", show_default=True, help="What to measure.")
@click.option("--model", help="Device of the catalogue that the GPU is, where its name does not tell.")
@click.option("-o", "--output", type=OUT, required=True, help="Calibration to write; samples go beside it.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Order of the items.")
@click.option(
    "--only", multiple=True, metavar="KIND", help="Measure this kind of item only; repeat for several."
)
@click.option("--resume", is_flag=True, help="Go on where an earlier run ended.")
@click.option("--force", is_flag=True, help="Replace what an earlier run wrote.")
@common_options
@click.pass_context
def run_command(
    ctx: click.Context, budget: float, device: str, model: str | None, output: Path, seed: int,
    only: tuple[str, ...], resume: bool, force: bool,
) -> None:  # fmt: skip
    """Measure this host for a while and write a calibration of it.

    Items run in random order, each several times; a run that is cut short by its budget or by Ctrl-C keeps
    what it has, and --resume goes on. Nothing of a GPU is set. Needs torch.
    """
    from planner.calibrate.run.backend import backend_for
    from planner.calibrate.run.catalogue import calibrate, known_kinds
    from planner.calibrate.run.runner import Rules
    from planner.study.verify import samples_beside

    unknown = sorted(set(only) - set(known_kinds()))
    if unknown:
        raise click.BadParameter(
            f"no kind {unknown[0]!r}; known: {', '.join(known_kinds())}", ctx, param_hint="--only"
        )
    path = samples_beside(output)
    check_file(output, force=force or resume)
    check_file(path, force=force or resume)
    backend = backend_for("cpu" if device == "cpu" else "cuda", model=model)
    with interrupts(NOTE) as signals, measuring("measuring", verbosity(ctx)) as shown:
        rules = Rules(budget, signals.stopped, shown, path)
        samples = calibrate(backend, rules, seed=seed, resume=resume, only=only or None)
    _fit(ctx, path, output, samples.name.removesuffix("-samples") + "-measured")


NOTE = b"planner: stopping; what was measured is kept (interrupt again to end at once)\n"


@calibrate_group.command("fit", epilog=examples("planner calibrate fit my-host.samples.yaml -o my-host.yaml"))
@click.argument("samples", type=EXISTING)
@click.option("-o", "--output", type=OUT, required=True, help="Calibration to write.")
@click.option("--name", help="Name of the calibration.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@common_options
@click.pass_context
def fit_command(ctx: click.Context, samples: Path, output: Path, name: str | None, force: bool) -> None:
    """Fit the coefficients of a calibration to SAMPLES; says what they do not support."""
    check_file(output, force=force)
    _fit(ctx, samples, output, name)


def _fit(ctx: click.Context, path: Path, output: Path, name: str | None) -> None:
    from planner.calibrate.fit import fit_samples
    from planner.calibrate.samples import load_samples
    from planner.costs import load_calibration
    from planner.report.measured import calibration_table
    from planner.schema import dump_yaml, write_text_atomic

    samples = load_samples(path)
    fitted = fit_samples(samples, load_calibration(), name)
    write_text_atomic(output, dump_yaml(fitted.calibration))
    if wants_json(ctx):
        print_json({
            "calibration": str(output), "samples": str(path), "items": len(samples.items),
            "skipped": [one.model_dump() for one in samples.skipped], "complete": samples.complete,
            "seconds": samples.seconds, "warnings": fitted.warnings,
            "coefficients": {n: one.value for n, one in fitted.calibration.coefficients.items()},
            "residuals": {n: one.residual for n, one in fitted.calibration.kernels.items()},
        })  # fmt: skip
        return
    print_table(stdout_console(), calibration_table(fitted.calibration))
    click.echo(f"{len(samples.items)} items measured, {len(samples.skipped)} not (see {path})")
    click.echo(f"Written to {output}; use it with --calibration {output}")


@calibrate_group.command(
    "import",
    epilog=examples(
        "planner calibrate import nvbandwidth.json all_reduce.log --device h100-sxm-80 -o h100.samples.yaml",
        "planner calibrate import gemm_perf.parquet --device h100-sxm-80 -o h100.samples.yaml",
    ),
)
@click.argument("files", type=EXISTING, nargs=-1, required=True, metavar="FILE...")
@click.option("--device", required=True, help="Device model of the catalogue that was measured.")
@click.option("-o", "--output", type=OUT, required=True, help="Samples to write.")
@click.option("--name", help="Name of the samples.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@common_options
@click.pass_context
def import_command(
    ctx: click.Context, files: tuple[Path, ...], device: str, output: Path, name: str | None, force: bool
) -> None:
    """Read the output of benchmark tools as samples, to be fitted.

    Known: nvbandwidth, nccl-tests and rccl-tests (text, JSON), bandwidthTest, p2pBandwidthLatencyTest,
    gpu_copy, AIConfigurator's tables (Parquet), Vidur's tables (CSV).
    """
    from planner.calibrate.imported import import_files
    from planner.calibrate.samples import store

    check_file(output, force=force)
    found = import_files(files, device, name)
    for warning in found.warnings:
        click.echo(f"planner: warning: {warning}", err=True)
    store(found, output)
    if wants_json(ctx):
        print_json({"samples": str(output), "items": len(found.items), "warnings": found.warnings})
        return
    click.echo(f"{len(found.items)} items; written to {output}")


@calibrate_group.command(
    "show",
    epilog=examples(
        "planner calibrate show my-host.yaml",
        "planner calibrate show my-host.yaml --samples my-host.samples.yaml -o fit.png",
    ),
)
@click.argument("file")
@click.option(
    "--samples", "samples_file", type=EXISTING, help="Samples to plot; those beside the file if absent."
)
@click.option("-o", "--output", type=OUT, help="Figure of the fit against samples (.png, .svg or .pdf).")
@click.option("--force", is_flag=True, help="Replace the figure if it exists.")
@common_options
@click.pass_context
def show_command(
    ctx: click.Context, file: str, samples_file: Path | None, output: Path | None, force: bool
) -> None:
    """Show FILE, samples or a calibration (a file or a preset), and plot fits against samples."""
    from planner.calibrate.samples import Samples, load_samples
    from planner.costs import Calibration
    from planner.errors import CalibrationError
    from planner.report.measured import calibration_table, fit_figure, samples_table
    from planner.schema import load_any, plain, presets, write_bytes_atomic
    from planner.study.verify import samples_beside

    check_file(output, force=force)
    path = presets.find("calibrations", file, CalibrationError)
    document = load_any(path, {"samples": Samples, "calibration": Calibration})
    if output is not None and isinstance(document, Calibration):
        picture = fit_figure(
            document, load_samples(samples_file or samples_beside(path)), output.suffix[1:] or "png"
        )
        write_bytes_atomic(output, picture)
    elif output is not None:
        raise click.UsageError("a figure needs a calibration; name its samples with --samples", ctx)
    if wants_json(ctx):
        print_json(plain(document))
        return
    table = samples_table(document) if isinstance(document, Samples) else calibration_table(document)  # type: ignore[arg-type]
    print_table(stdout_console(), table)
