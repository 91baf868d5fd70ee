"""Many measured training runs as arrays: terms once, step times under any coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.training_machines import machine_links, nested_spans
from planner.calibrate.training_runs import Choice, Run
from planner.costs.coefficients import Calibration
from planner.costs.kernels import kernels
from planner.costs.pipeline import even_step_times
from planner.costs.stacks import NAMES, StackCoefficients, by_operation, stack_coefficients
from planner.costs.step_terms import StepTerms, concatenated, step_terms, taken
from planner.costs.strategy import Candidates, JobShape, Setting
from planner.costs.training import stage_times

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Runs with every choice of their open settings, one entry of the arrays for each.

    Attributes
    ----------
    run_of : ndarray, shape (n,)
        Place of the entry's run in ``runs``, ascending.
    """

    runs: tuple[Run, ...]
    run_of: IntArray
    terms: StepTerms
    stages: IntArray
    virtual: IntArray
    dense_layers: IntArray
    moe_layers: IntArray

    def only(self, places: IntArray) -> Batch:
        """Return the batch of some runs."""
        entries = np.flatnonzero(np.isin(self.run_of, places))
        place_of = np.full(len(self.runs), -1)
        place_of[places] = np.arange(len(places))
        kept = entries[np.argsort(place_of[self.run_of[entries]], kind="stable")]
        return Batch(
            tuple(self.runs[place] for place in places), place_of[self.run_of[kept]], taken(self.terms, kept),
            self.stages[kept], self.virtual[kept], self.dense_layers[kept], self.moe_layers[kept],
        )  # fmt: skip

    @property
    def measured(self) -> FloatArray:
        """Measured step time of every run, s."""
        return np.asarray([run.measured for run in self.runs])

    def coefficients(self, calibration: Calibration) -> StackCoefficients:
        """Return the coefficients of every entry's stack, arrays of shape (n,)."""
        keys = [(run.stack, run.device.architecture) for run in self.runs]
        found = {key: stack_coefficients(calibration, *key) for key in set(keys)}
        table = {
            name: np.asarray([float(getattr(found[key], name)) for key in keys])[self.run_of]
            for name in NAMES
        }
        return StackCoefficients(**table)

    def entry_times(self, stack: StackCoefficients) -> FloatArray:
        """Return the step time of every entry, s."""
        times = stage_times(self.terms, stack)
        return even_step_times(times, self.stages, self.virtual, self.dense_layers, self.moe_layers)

    def predicted(self, entry_times: FloatArray) -> FloatArray:
        """Return a step time of every run, s: of its open settings, those nearest to the measured time."""
        target = np.nan_to_num(self.measured, nan=1.0)[self.run_of]
        distance = np.abs(np.log(np.maximum(entry_times, 1e-12) / target))
        order = np.lexsort((distance, self.run_of))
        first = np.unique(self.run_of[order], return_index=True)[1]
        return np.asarray(entry_times[order[first]])

    def tried(self) -> IntArray:
        """Return how many settings were tried for every run."""
        return np.bincount(self.run_of, minlength=len(self.runs))


def batch(runs: Sequence[Run], calibration: Calibration) -> Batch:
    """Return runs as arrays, their terms under the kernels and links of a calibration."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, run in enumerate(runs):
        groups.setdefault(_group(run), []).append(place)
    parts, run_of, choices = [], [], []
    for places in groups.values():
        members = [(place, choice) for place in places for choice in runs[place].choices]
        parts.append(_terms([(runs[place], choice) for place, choice in members], calibration))
        run_of += [place for place, _ in members]
        choices += [choice for _, choice in members]
    order = np.argsort(np.asarray(run_of), kind="stable")
    chosen = [runs[place] for place in np.asarray(run_of)]
    dense = np.asarray([run.model.dense_layers for run in chosen])
    layers = np.asarray([run.model.layers for run in chosen])
    return Batch(
        tuple(runs), np.asarray(run_of)[order], taken(concatenated(parts), order),
        np.asarray([run.pp for run in chosen])[order],
        np.asarray([choice.virtual for choice in choices])[order],
        dense[order], (layers - dense)[order],
    )  # fmt: skip


def _group(run: Run) -> tuple[object, ...]:
    shape = (run.model.model_dump_json(), run.sequence, run.precision, run.flash, run.frozen)
    return (*shape, by_operation(run.stack), run.device.name, run.system, run.per_node)


def _terms(members: list[tuple[Run, Choice]], calibration: Calibration) -> StepTerms:
    return step_terms(setting_of(members, calibration))


def setting_of(
    members: Sequence[tuple[Run, Choice]],
    calibration: Calibration,
    *,
    dropout: bool = False,
    sequence_parallel: bool | None = None,
) -> Setting:
    """Return the setting of runs that share model, sequence, data type and machine, each with a choice.

    Parameters
    ----------
    dropout
        Whether masks of dropout are kept.
    sequence_parallel
        What to take instead of what the runs state.
    """
    one = members[0][0]
    sequence = [
        run.sequence_parallel if sequence_parallel is None else sequence_parallel for run, _ in members
    ]
    columns = {
        **{name: [getattr(run, name) for run, _ in members]
           for name in ("tp", "pp", "dp", "cp", "ep", "sharding")},
        **{name: [getattr(choice, name) for _, choice in members]
           for name in ("virtual", "micro_batch", "recompute")},
        "sequence_parallel": sequence,
    }  # fmt: skip
    many = Candidates(**{name: np.asarray(column, dtype=np.int64) for name, column in columns.items()})
    shape = JobShape(
        one.model, one.sequence, np.asarray([run.global_batch for run, _ in members]), one.flash,
        one.precision.element, one.precision.dtype, one.stack, dropout, one.precision.cast_bytes, one.frozen,
    )  # fmt: skip
    fabric, inner = machine_links(one.device, one.per_node, one.system, calibration)
    spans = nested_spans(many, inner)
    return Setting(shape, many, spans, kernels(one.device, calibration), fabric, calibration)
