"""Fit the coefficients of training stacks to measured runs: few, positive, kept near stated values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.training_batch import Batch
from planner.costs.coefficients import Calibration, Coefficient
from planner.costs.stacks import DEFAULT_STACK, NAMES, PREFIX, SHARES, STATED, StackCoefficients

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ARCHITECTURE_FACTORS = ("gemm", "attention", "elementwise", "casts")
"""What may differ by architecture within a stack: rates under load."""
RELEASE_FACTORS = ("gemm", "elementwise", "expert", "host", "host_moe")
"""What may differ by release of a stack: fusion, launches and dispatch."""
SPREAD = 0.05
"""Spread of measured runs about a good model, relative: what a coefficient's distance is weighed with."""
OWN_WIDTH, FACTOR_WIDTH = 0.4, 0.2
"""How far, as a logarithm, a stack's coefficient may be from the stated one, and a factor from one."""
WIDTHS = {
    "host": 2.0, "host_moe": 2.0, "micro_batch": 1.0, "step": 1.0, "message": 1.0,
    "elementwise": 0.7, "scores": 0.7, "data_overlap": 2.0, "tensor_overlap": 2.0,
}  # fmt: skip
"""The same where frameworks differ more: what the host needs, and how many kernels are fused."""


TAIL = 0.1
"""Error, relative, beyond which a run pulls no harder."""
KNOWN_WIDTH = 0.1
"""The same for what is known of a stack (``training.stated/STACK.NAME``), whatever others do."""


@dataclass(frozen=True)
class Parameter:
    """One number to fit: a coefficient or a factor by name, the entries it acts on, its stated value."""

    key: str
    name: str
    entries: NDArray[np.bool_]
    stated: float
    width: float


def fit_family(batch: Batch, calibration: Calibration, family: str) -> dict[str, float]:
    """Return the coefficients of one stack from its runs, by name.

    Least squares of the logarithm of predicted over measured time, robust (soft L1), with the
    distance of each coefficient from its stated value as a further residual. Coefficients without a
    measurable effect stay where they are.
    """
    from scipy.optimize import least_squares

    parameters = _parameters(batch, calibration, family)
    widths = np.asarray([one.width for one in parameters])
    measured, weights = batch.measured, _weights(batch)

    def residuals(moved: FloatArray) -> FloatArray:
        times = batch.entry_times(_coefficients(batch, calibration, family, parameters, moved))
        errors = np.log(np.maximum(batch.predicted(times), 1e-9) / measured)
        return np.concatenate([weights * errors, SPREAD * moved / widths])

    found = least_squares(
        residuals, np.zeros(len(parameters)), loss="soft_l1", f_scale=TAIL, x_scale=widths,
        max_nfev=20, xtol=1e-4, ftol=1e-4,
    )  # fmt: skip
    values = [_moved(one, shift) for one, shift in zip(parameters, found.x, strict=True)]
    return {one.key: float(value) for one, value in zip(parameters, values, strict=True)}


def _weights(batch: Batch) -> FloatArray:
    """Return weights of the runs: those of a source count together as the square root of their number."""
    _, place, count = np.unique([run.source for run in batch.runs], return_inverse=True, return_counts=True)
    weights = count[place] ** -0.4
    return np.asarray(weights / np.sqrt(np.mean(weights**2)))


def _parameters(batch: Batch, calibration: Calibration, family: str) -> list[Parameter]:
    everywhere = np.ones(len(batch.run_of), dtype=np.bool_)
    found = []
    for name in NAMES:
        known = calibration.coefficients.get(f"{PREFIX}.{STATED}/{family}.{name}")
        stated = calibration.number(f"{PREFIX}.{STATED}.{name}") if known is None else known.value
        width = WIDTHS.get(name, OWN_WIDTH) if known is None else KNOWN_WIDTH
        found.append(Parameter(f"{PREFIX}.{family}.{name}", name, everywhere, stated, width))
    if family == DEFAULT_STACK:
        return found
    found += _factors(batch, family, [run.device.architecture for run in batch.runs], ARCHITECTURE_FACTORS)
    releases = [(run.stack or "").partition("@")[2] for run in batch.runs]
    return found + _factors(batch, family, releases, RELEASE_FACTORS)


def _factors(batch: Batch, family: str, tags: Sequence[str], names: Sequence[str]) -> list[Parameter]:
    """Return factors for every tag, none where all runs have the same."""
    distinct = sorted(set(tags) - {""})
    if len(set(tags)) < 2:
        return []
    found = []
    for tag in distinct:
        entries = np.asarray([one == tag for one in tags])[batch.run_of]
        for name in names:
            width = 3 * FACTOR_WIDTH if name.startswith("host") else FACTOR_WIDTH
            found.append(Parameter(f"{PREFIX}.{family}/{tag}.{name}", name, entries, 1.0, width))
    return found


def _moved(one: Parameter, shift: float) -> float:
    if one.name in SHARES:
        odds = one.stated / (1.0 - one.stated) if one.stated < 1.0 else 1e3
        return float(1.0 / (1.0 + np.exp(-shift) / max(odds, 0.05)))
    return float(one.stated * np.exp(shift))


def _coefficients(
    batch: Batch, calibration: Calibration, family: str, parameters: Sequence[Parameter], moved: FloatArray
) -> StackCoefficients:
    values = {name: np.ones(len(batch.run_of)) for name in NAMES}
    for one, shift in zip(parameters, moved, strict=True):
        values[one.name] = np.where(one.entries, values[one.name] * _moved(one, shift), values[one.name])
    return StackCoefficients(**values)


def fit_training(
    batch: Batch, calibration: Calibration, rows: IntArray | None = None, *, pooled: bool = False
) -> dict[str, float]:
    """Return the coefficients of every stack that has runs among some rows.

    Parameters
    ----------
    pooled
        Whether to fit the default, for stacks without runs, too: to the runs of all stacks together.
    """
    places = np.arange(len(batch.runs)) if rows is None else rows
    places = places[np.isfinite(batch.measured[places])]
    families: dict[str, list[int]] = {}
    for place in places:
        stack = batch.runs[place].stack
        families.setdefault(DEFAULT_STACK if stack is None else stack.split("@", 1)[0], []).append(int(place))
    families.pop(DEFAULT_STACK, None)
    if pooled and len(places):
        families[DEFAULT_STACK] = [int(place) for place in places]
    found: dict[str, float] = {}
    for family, members in families.items():
        found |= fit_family(batch.only(np.asarray(members)), calibration, family)
    return found


def with_values(calibration: Calibration, values: Mapping[str, float], source: str = "fitted") -> Calibration:
    """Return the calibration with coefficients replaced: of stacks, those that are given and no others."""
    kept = {
        name: one for name, one in calibration.coefficients.items()
        if not name.startswith(f"{PREFIX}.") or name.startswith(f"{PREFIX}.{STATED}")
    }  # fmt: skip
    fitted = {
        name: Coefficient(value=value, provenance="measured", source=source) for name, value in values.items()
    }
    return calibration.model_copy(update={"coefficients": kept | fitted})
