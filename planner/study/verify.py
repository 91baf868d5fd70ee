"""Verify a stored plan on the devices at hand, and refresh the calibration that it was made with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner.calibrate.fit import fit_samples
from planner.calibrate.run.backend import Backend
from planner.calibrate.samples import Samples, load_samples
from planner.calibrate.verification import Verification
from planner.calibrate.verify import VerifyRules, verify_plan
from planner.costs import Calibration
from planner.costs.coefficients import Coefficient
from planner.errors import CalibrationError
from planner.study.inputs import Study

SAMPLES = ".samples.yaml"
"""Ending of the samples beside the calibration that was fitted to them."""


@dataclass(frozen=True)
class VerifiedStudy:
    """What came out: the verification, its samples, and the calibration fitted anew."""

    verification: Verification
    samples: Samples
    calibration: Calibration | None


def samples_beside(calibration: Path) -> Path:
    """Return where the samples of a calibration lie."""
    return calibration.with_name(calibration.name.removesuffix(".yaml") + SAMPLES)


def verify_study(
    study: Study, backend: Backend, rules: VerifyRules, samples: Path | None = None, *, refresh: bool = True
) -> VerifiedStudy:
    """Measure what a plan predicts and fit the calibration to that and to its earlier samples.

    Parameters
    ----------
    samples
        What the plan's calibration was fitted to, where it is at hand.
    refresh
        Whether to fit the calibration.

    Raises
    ------
    CalibrationError
        If nothing of the plan can be run here.
    """
    found = verify_plan(study.plan, study.problems, study.topology, study.calibration.name, backend, rules)
    before = load_samples(samples) if samples is not None else None
    both = found.samples if before is None else before.joined(found.samples)
    return VerifiedStudy(found.verification, both, refreshed(study.calibration, both) if refresh else None)


def refreshed(calibration: Calibration, samples: Samples) -> Calibration | None:
    """Return a calibration with what samples tell in place of its own, ``None`` if they tell nothing."""
    try:
        fitted = fit_samples(samples, calibration).calibration
    except CalibrationError:
        return None
    if calibration.host != fitted.host or calibration.devices != fitted.devices:
        return fitted
    return fitted.model_copy(
        update={
            "coefficients": _own(calibration) | fitted.coefficients,
            "kernels": {n: f for n, f in calibration.kernels.items() if f.device in fitted.devices}
            | fitted.kernels,
            "collectives": {n: s for n, s in calibration.collectives.items() if n in fitted.devices}
            | fitted.collectives,
        }
    )


def _own(calibration: Calibration) -> dict[str, Coefficient]:
    """Return the coefficients measured on the calibration's own host, not those that complete it."""
    mark = calibration.sources.get("run", "")
    return {n: one for n, one in calibration.coefficients.items() if mark and one.source.startswith(mark)}
