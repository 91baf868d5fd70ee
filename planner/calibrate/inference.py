"""Fit what engines add to their kernels to measured runs: few positive coefficients, near stated values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.inference_batch import InferenceBatch, Predicted
from planner.calibrate.inference_runs import ServedRun
from planner.costs import Calibration
from planner.costs.closed_loop import Policy
from planner.costs.coefficients import Coefficient
from planner.costs.engine import ENGINES, Tuning, engine_number

FloatArray = NDArray[np.float64]

SHARED = {
    "compute": 1.1, "memory": 1.0, "attention": 1.1, "expert": 1.2, "layer": 1.5e-5, "expert_layer": 1.5e-5,
    "latent_layer": 1.5e-5, "message": 1e-6, "transfer": 1.0, "expert_eager": 2e-4, "scatter": 0.3,
    "accepted": 2.2,
}  # fmt: skip
"""Coefficients that all engines share, with the value that a fit starts from."""
OWN = {
    "step": 5e-4, "sequence": 5e-6, "eager": 2e-4, "first_token": 0.03, "prompt": 1.5, "queue": 0.1,
    "interference": 1.0,
}  # fmt: skip
"""Coefficients of each engine."""
FIXED = ("draft", "mixed")
WIDTHS = {
    "compute": 0.2, "memory": 0.1, "attention": 0.2, "expert": 0.25, "transfer": 0.25, "interference": 0.25,
    "accepted": 0.2,
}  # fmt: skip
"""How far, as a logarithm, physical ratios may be from where the fit starts; others ``WIDE``."""
WIDE, OWN_WIDTH = 1.0, 0.3
"""Width of the other coefficients, and of an engine's from the mean of all engines."""
SPREAD = 0.15
"""Spread of measured runs about a good model, relative."""
FIRST_TOKEN_WEIGHT = 0.4
EVALUATIONS = 12


@dataclass(frozen=True)
class Fitted:
    """Coefficients by name (``engine_`` left out) and the error of the fit.

    Attributes
    ----------
    residual
        Median relative error over the runs that were fitted.
    samples
        Number of these runs.
    """

    values: dict[str, float]
    residual: float
    samples: int

    def calibration(self, base: Calibration, source: str) -> Calibration:
        """Return a calibration with these coefficients in place of its own."""
        mine = {
            f"engine_{name}": Coefficient(
                value=float(f"{value:.4g}"), provenance="measured", source=source,
                residual=round(self.residual, 3), samples=self.samples,
            )
            for name, value in self.values.items()
        }  # fmt: skip
        return base.model_copy(update={"coefficients": {**base.coefficients, **mine}})


class _Parameters:
    """Logarithms of the coefficients as one vector, and how far they are from where they start."""

    def __init__(self, engines: Sequence[str], calibration: Calibration) -> None:
        self.engines = list(engines)
        self.names = [*SHARED, *(f"{name}_{engine}" for name in OWN for engine in self.engines)]
        stated = [*SHARED.values(), *(value for value in OWN.values() for _ in self.engines)]
        self.start = np.log(np.asarray(stated))
        self._fixed = {
            engine: {name: engine_number(calibration, name, engine) for name in FIXED}
            for engine in self.engines
        }

    def values(self, logs: FloatArray) -> dict[str, float]:
        return dict(zip(self.names, np.exp(logs).tolist(), strict=True))

    def tunings(self, logs: FloatArray) -> dict[str, tuple[Tuning, Policy]]:
        value = self.values(logs)
        found = {}
        for engine in self.engines:
            mine = dict(self._fixed[engine])
            mine |= {name: value[f"{name}_{engine}"] for name in OWN} | {name: value[name] for name in SHARED}
            tuning = Tuning(**{one.name: mine[one.name] for one in fields(Tuning)})
            found[engine] = (tuning, Policy(**{one.name: mine[one.name] for one in fields(Policy)}))
        return found

    def distance(self, logs: FloatArray) -> FloatArray:
        """Return distances from the start, in widths: shared ones, means over engines, engines from means."""
        moved = logs - self.start
        shared = [moved[i] / WIDTHS.get(name, WIDE) for i, name in enumerate(SHARED)]
        own = moved[len(SHARED) :].reshape(len(OWN), -1)
        mean = own.mean(axis=1)
        widths = np.asarray([WIDTHS.get(name, WIDE) for name in OWN])
        return np.concatenate([shared, mean / widths, ((own - mean[:, None]) / OWN_WIDTH).ravel()])


def fit_inference(
    runs: Sequence[ServedRun],
    calibration: Calibration,
    *,
    batch: InferenceBatch | None = None,
    keep: NDArray[np.bool_] | None = None,
) -> Fitted:
    """Return the coefficients that fit measured runs best.

    Robust least squares (Cauchy) of the logarithms of predicted over measured times and rates, settings that
    a table leaves open at their best, with the distance of each coefficient from its start as a further
    residual. Runs of a large group of one model, device and engine weigh less each. The steps are those at
    the batches that the start implies.

    Parameters
    ----------
    batch
        The same runs, primed by :func:`primed`, to fit several times.
    keep : ndarray of bool, shape (n,)
        Which runs to fit on; all when absent.
    """
    from scipy.optimize import least_squares

    ready = primed(runs, calibration) if batch is None else batch
    chosen = np.ones(len(runs), dtype=np.bool_) if keep is None else keep
    parameters = _Parameters(ENGINES, calibration)
    weights = np.where(chosen, _weights(runs, chosen), 0.0)
    measured = {key: _measured(runs, key) for key in ("ttft", "tpot", "rate")}

    def residuals(logs: FloatArray) -> FloatArray:
        guess = ready.predict(parameters.tunings(logs))
        parts = [weights * one for one in _errors(guess, runs, measured)]
        return np.concatenate([*parts, SPREAD * parameters.distance(logs)])

    found = least_squares(
        residuals, parameters.start, loss="cauchy", f_scale=SPREAD, max_nfev=EVALUATIONS, diff_step=1e-3
    )
    errors = _errors(ready.predict(parameters.tunings(found.x)), runs, measured)
    steady = np.abs(np.expm1(errors[0] + errors[2]))[chosen]
    return Fitted(parameters.values(found.x), float(np.median(steady)), int(chosen.sum()))


def primed(runs: Sequence[ServedRun], calibration: Calibration) -> InferenceBatch:
    """Return runs whose steps are computed at the batches that the start of a fit implies."""
    batch, parameters = InferenceBatch(runs, calibration), _Parameters(ENGINES, calibration)
    batch.prime(parameters.tunings(parameters.start))
    return batch


def _measured(runs: Sequence[ServedRun], key: str) -> FloatArray:
    return np.asarray([run.measured.get(key, np.nan) for run in runs])


def _errors(guess: Predicted, runs: Sequence[ServedRun], measured: dict[str, FloatArray]) -> list[FloatArray]:
    """Return the logarithms of predicted over measured TPOT, TTFT and rate, weighed; 0 if not measured."""
    ttft, tpot, rate = guess.take(guess.best(runs))
    pairs = ((tpot, "tpot", 1.0), (ttft, "ttft", FIRST_TOKEN_WEIGHT), (rate, "rate", 1.0))
    found = []
    for predicted, key, weight in pairs:
        with np.errstate(invalid="ignore", divide="ignore"):
            error = weight * np.log(predicted / measured[key])
        found.append(np.where(np.isfinite(error), error, 0.0))
    return found


def _weights(runs: Sequence[ServedRun], keep: NDArray[np.bool_]) -> FloatArray:
    keys = [(run.model.name, run.device.name, run.engine) for run in runs]
    count = Counter(key for key, used in zip(keys, keep, strict=True) if used)
    weights = np.asarray([max(count[key], 1) ** -0.25 for key in keys])
    return np.asarray(weights / weights[keep].mean())


def grouped(runs: Sequence[ServedRun]) -> list[ServedRun]:
    """Return one run for all repeats of a visible configuration, with the median of what was measured."""
    found: dict[tuple[object, ...], list[ServedRun]] = {}
    for run in runs:
        visible = (
            run.model.name, run.device.name, run.engine, run.precisions, run.degrees, run.prompt, run.output,
            run.clients, tuple(sorted(run.group.items())),
        )  # fmt: skip
        found.setdefault(visible, []).append(run)
    return [
        replace(
            same[0],
            measured={key: float(np.median([run.measured[key] for run in same])) for key in same[0].measured},
        )
        for same in found.values()
    ]
