"""Fit the coefficients of stacks: ``python -m benchmarks.training_fit FOLDER calibrations/training.yaml``."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.training_accuracy import Judge
from planner.calibrate.training import fit_training, with_values
from planner.costs import Calibration, load_calibration
from planner.costs.scores import score
from planner.costs.stacks import DEFAULT_STACK, PREFIX, STATED

HEAD = """\
schema: calibration/1
name: training
description: >-
  How far training stacks are from kernels and collectives at face value, see docs/validation/training.md.
  Written by benchmarks/training_fit.py after kernels and collectives were fitted; residuals are mean errors
  of step times.
date: {date}
sources:
  stated: what is expected of a well-made stack; every fit starts here and is held near by a weak prior
  runs: published training runs of the stack, see docs/validation/training.md
coefficients:
"""


def written(calibration: Calibration, judged: Judge) -> str:
    """Return the document with the coefficients fitted to all runs."""
    assert judged.batch is not None
    values = fit_training(judged.batch, calibration, pooled=True)
    fitted = with_values(calibration, values)
    guesses = judged.predicted(fitted, np.arange(len(judged.runs)))
    families = np.asarray([(run.stack or "").split("@")[0] for run in judged.runs])
    lines = [HEAD.format(date=datetime.date.today().isoformat())]
    for name, one in calibration.coefficients.items():
        if name.startswith(f"{PREFIX}.{STATED}") or name == "logit_bytes":
            lines.append(
                f'  {name}: {{value: {one.value:g}, provenance: {one.provenance}, source: "{one.source}"}}\n'
            )
    for name, value in values.items():
        family = name.split(".")[1].split("/")[0]
        chosen = families == family if family != DEFAULT_STACK else np.ones(len(families), dtype=np.bool_)
        error = score(guesses[chosen], judged.measured[chosen]).mape
        counted = f"residual: {error:.3f}, samples: {int(chosen.sum())}"
        lines.append(f"  {name}: {{value: {value:.4g}, provenance: measured, source: runs, {counted}}}\n")
    return "".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the calibration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args(arguments)
    calibration = load_calibration()
    options.output.write_text(written(calibration, Judge(options.folder, calibration)), encoding="utf-8")


if __name__ == "__main__":
    main()
