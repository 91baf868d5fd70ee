"""How far two calibrations of one device are apart: coefficients, kernels, collectives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from planner.costs import Calibration, load_calibration
from planner.costs.coefficients import KernelFit
from planner.costs.domains import attachment, shipped_attachment
from planner.costs.kernel_fits import chip_of
from planner.costs.kernels import fitted_seconds
from planner.errors import TopologyError
from planner.schema import Document
from planner.study.gates.metrics import Reading
from planner.topology import find_device

SHAPES: Mapping[str, Mapping[str, float]] = {
    "gemm": {"m": 256, "n": 4096, "k": 4096},
    "prefill": {"batch": 1, "queries": 512, "past": 0, "heads": 32, "kv_heads": 8, "head_dim": 128},
    "decode": {"batch": 8, "keys": 1024, "heads": 32, "kv_heads": 8, "head_dim": 128},
}
"""Where a kernel's fits are compared, size by size, unless they were measured elsewhere."""
MESSAGES = (64e3, 64e6)
"""Sizes at which collectives are compared, bytes."""
GROUP = 2.0


def drift(candidate: Document, baseline: Document) -> Reading | None:
    """Return the largest relative change of what two calibrations both state, with its name.

    Coefficients change by their value; a kernel by its time in the middle of the shapes that both were
    measured with; collectives by the time of a small and of a large one.
    """
    if not isinstance(candidate, Calibration) or not isinstance(baseline, Calibration):
        return None
    changes = [*_numbers(candidate, baseline), *_kernels(candidate, baseline)]
    changes += _collectives(candidate, baseline)
    if not changes:
        return None
    change, name = max(changes)
    return Reading(change, name)


def _numbers(candidate: Calibration, baseline: Calibration) -> Iterator[tuple[float, str]]:
    for name, one in candidate.coefficients.items():
        other = baseline.coefficients.get(name)
        if other is not None and other.value:
            yield abs(one.value / other.value - 1.0), name


def _kernels(candidate: Calibration, baseline: Calibration) -> Iterator[tuple[float, str]]:
    for name, one in candidate.kernels.items():
        other = baseline.kernels.get(name)
        if other is None or one.kind not in SHAPES:
            continue
        shape = tuple(np.asarray([size]) for size in _middle(one, other))
        try:
            chip = chip_of(find_device(one.device), one.dtype)
        except TopologyError:
            continue  # a device of the document's own
        times = [float(fitted_seconds(one.kind, fit, chip, shape)[0]) for fit in (one, other)]
        yield abs(times[0] / times[1] - 1.0), name


def _middle(one: KernelFit, other: KernelFit) -> Iterator[float]:
    """Yield for each size the geometric middle of the range in which both were measured."""
    for name, usual in SHAPES[one.kind].items():
        ranges = [fit.ranges[name] for fit in (one, other) if name in fit.ranges]
        if not ranges:
            yield usual
            continue
        low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
        yield float(np.sqrt(low * high)) if low > 0.0 else low


def _collectives(candidate: Calibration, baseline: Calibration) -> Iterator[tuple[float, str]]:
    for name, one in candidate.collectives.items():
        other = baseline.collectives.get(name)
        if other is None:
            continue
        try:
            device = find_device(name)
        except TopologyError:
            continue  # a kind of link and not a device
        joined = shipped_attachment(device) or attachment(device, load_calibration())
        sizes, group = np.asarray(MESSAGES), np.full(len(MESSAGES), GROUP)
        times = [
            surface.seconds("all_reduce", sizes, group, joined.rate, reduces=joined.reduces)[0]
            for surface in (one, other)
        ]
        yield float(np.max(np.abs(times[0] / times[1] - 1.0))), f"all-reduce of {name}"
