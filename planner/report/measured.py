"""Tables and a figure of calibrations, samples and verifications."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from planner.calibrate.fit import SHAPES
from planner.calibrate.lines import fit_line
from planner.calibrate.samples import Sampled, Samples, column, medians
from planner.calibrate.verification import Verification
from planner.costs import Calibration
from planner.costs.kernel_fits import chip_of
from planner.costs.kernels import fitted_seconds
from planner.errors import PlannerError
from planner.report.summary import Table
from planner.topology import find_device
from planner.units import show

PACED = 0.02
"""Change of the host's pace from which its part in the errors is said: the columns beside them show it."""


def calibration_table(calibration: Calibration) -> Table:
    """Return the coefficients and fits of a calibration that it states itself."""
    rows = [
        [
            name,
            f"{one.value:.4g}",
            one.provenance,
            _number(one.samples),
            _share(one.spread),
            _share(one.residual),
        ]
        for name, one in calibration.coefficients.items()
    ]
    rows += [
        [name, "fit", fit.provenance, str(fit.samples), _share(fit.spread), _share(fit.residual)]
        for name, fit in calibration.kernels.items()
    ]
    rows += [
        [f"{name}.collectives", "fit", "measured", _number(one.samples), "", _share(one.residual)]
        for name, one in calibration.collectives.items()
    ]
    notes = [f"Measured on {', '.join(calibration.devices) or 'every device'}"]
    notes[0] += f", host {calibration.host or 'unnamed'}, {calibration.date or 'undated'}."
    if calibration.versions or calibration.driver:
        versions = [f"{name} {value}" for name, value in calibration.versions.items()]
        notes.append(
            ", ".join([f"driver {calibration.driver}" if calibration.driver else "", *versions]).strip(", ")
        )
    columns = ("coefficient", "value", "provenance", "samples", "spread", "residual")
    return Table(calibration.name, columns, _frozen(rows), (*notes, *calibration.warnings))


def samples_table(samples: Samples) -> Table:
    """Return the items of a run."""
    rows = [
        [one.item, show(one.median, "s"), _share(one.spread), str(len(one.seconds)), str(one.dropped)]
        for one in samples.items
    ]
    notes = [f"not measured: {one.item} ({one.reason})" for one in samples.skipped]
    return Table(
        samples.name, ("item", "median", "spread", "repetitions", "left out"), _frozen(rows), tuple(notes)
    )


def verification_table(found: Verification) -> Table:
    """Return predicted beside measured, item by item."""
    rows = [
        [
            row.item, show(row.predicted, "s"), show(row.measured, "s"), f"{100.0 * row.error:+.0f} %",
            _share(row.spread), ", ".join(filter(None, [row.note, *_outside(row.extrapolated)])),
        ]
        for row in found.rows
    ]  # fmt: skip
    error = found.median_error
    verdict = f"Verdict: {found.verdict}"
    if error is not None:
        verdict += f"; the median error is {error:.0%} (tolerance {found.tolerance:.0%})"
    notes = [verdict + "."]
    if any(abs(row.pace - 1.0) > PACED for row in found.rows):
        notes.append("Errors are at the calibration's pace of the host, which differs from item to item.")
    notes += [f"not verified: {one.item}: {one.reason}" for one in found.unverified]
    columns = ("item", "predicted", "measured", "error", "spread", "note")
    return Table(found.name, columns, _frozen(rows), (*notes, *found.warnings))


def _frozen(rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row) for row in rows)


def _outside(names: Sequence[str]) -> list[str]:
    return [f"extrapolated in {', '.join(names)}"] if names else []


def _share(value: float | None) -> str:
    return "" if value is None else f"{100.0 * value:.1f} %"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def fit_figure(calibration: Calibration, samples: Samples, form: str = "png") -> bytes:
    """Return a figure of fits against samples: a panel per kind of kernel, and one of the copies.

    Raises
    ------
    PlannerError
        If the two have no kind of item in common.
    """
    from matplotlib.figure import Figure

    panels = [*_kernel_panels(calibration, samples), *_copy_panels(samples)]
    if not panels:
        raise PlannerError(f"{calibration.name!r} and {samples.name!r} have no item in common to plot")
    figure = Figure(figsize=(4.2 * len(panels), 4.0), layout="constrained")
    for place, (title, measured, fitted) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        ends = [min(measured.min(), fitted.min()), max(measured.max(), fitted.max())]
        axes.loglog(ends, ends, color="0.6", linewidth=1.0)
        axes.loglog(measured, fitted, ".", markersize=4.0)
        axes.set(title=title, xlabel="measured, s", ylabel="fitted, s")
    target = io.BytesIO()
    figure.savefig(target, format=form, metadata={"Software": None} if form == "png" else None)
    return target.getvalue()


Panel = tuple[
    str, "np.ndarray[tuple[int], np.dtype[np.float64]]", "np.ndarray[tuple[int], np.dtype[np.float64]]"
]


def _kernel_panels(calibration: Calibration, samples: Samples) -> list[Panel]:
    found: list[Panel] = []
    for fit in calibration.kernels.values():
        items = samples.of(fit.kind, dtype=fit.dtype)
        if not items or fit.device != samples.device:
            continue
        shape = tuple(column(items, name) for name in SHAPES[fit.kind])
        times = fitted_seconds(fit.kind, fit, chip_of(find_device(fit.device), fit.dtype), shape)
        found.append((f"{fit.kind} {fit.dtype}", medians(items), np.asarray(times).ravel()))
    return found


def _copy_panels(samples: Samples) -> list[Panel]:
    found: list[Panel] = []
    for way in ("in", "out"):
        items: list[Sampled] = samples.of("copy", mode="pinned-copy", way=way)
        if len(items) > 1:
            line = fit_line(column(items, "bytes"), medians(items))
            found.append((f"copies {way}", medians(items), line.seconds(column(items, "bytes")).ravel()))
    return found
