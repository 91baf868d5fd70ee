"""From samples to the coefficients of a calibration, robustly; what the samples do not support is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.collectives import Samples as CollectiveSamples
from planner.calibrate.collectives import fit_surface
from planner.calibrate.core_kernels import fit_core
from planner.calibrate.fit_host import host_coefficients, measured
from planner.calibrate.kernels import Kind, fit_kernel
from planner.calibrate.samples import Sampled, Samples, column, medians, ranges
from planner.costs import Calibration
from planner.costs.coefficients import Coefficient, KernelFit
from planner.costs.domains import attachment, shipped_attachment
from planner.costs.link_surfaces import CollectiveSurface
from planner.costs.protocols import OPERATIONS
from planner.errors import CalibrationError
from planner.topology import Device, find_device

FloatArray = NDArray[np.float64]

SHAPES: Mapping[Kind, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "prefill": ("batch", "queries", "past", "heads", "kv_heads", "head_dim"),
    "decode": ("batch", "keys", "heads", "kv_heads", "head_dim"),
}
"""Sizes of a kernel in the order in which its model takes them."""
FEWEST_KERNELS = 6
"""Shapes below which a kernel's model is not fitted at all."""
WELL_FOUNDED = 12
POOR = 0.2
"""Mean relative error from which a fit is said not to hold."""
FEWEST_COLLECTIVES = 4
CORE = "cpu"
"""Architecture of a host's core in the catalogue."""


@dataclass
class Fitted:
    """A calibration with what its samples do not support."""

    calibration: Calibration
    warnings: list[str] = field(default_factory=list)


def fit_samples(samples: Samples, base: Calibration, name: str | None = None) -> Fitted:
    """Fit everything that the samples tell.

    Parameters
    ----------
    base
        Calibration that completes the new one; some of its numbers are kept fixed while others are fitted.

    Raises
    ------
    CalibrationError
        If the samples support no coefficient at all, or their device is unknown.
    """
    device, warnings = find_device(samples.device), list(samples.warnings)
    samples = samples.model_copy(update={"items": [one.at(samples.pace) for one in samples.items]})
    source = f"{samples.name}, {samples.product or samples.device} on {samples.host or 'an unnamed host'}"
    kernels = kernel_fits(samples, device, source, warnings)
    coefficients = host_coefficients(samples, device, base, source, warnings)
    surface = collective_surface(samples, device, base, source, warnings)
    collectives = {} if surface is None else {device.name: surface}
    if not (kernels or coefficients or collectives):
        raise CalibrationError(
            f"samples {samples.name!r} support no coefficient: {len(samples.items)} items; "
            + _why_not(samples)
        )
    if not samples.complete:
        warnings.append(f"the run was cut short: {len(samples.skipped)} items were not measured")
    document = Calibration(
        name=name or f"{device.name}-measured",
        description=f"Fitted to {len(samples.items)} items that planner calibrate measured or imported.",
        date=samples.date or None, host=samples.host or None, driver=samples.driver or None,
        versions=samples.versions, devices=[device.name], sources={"run": source},
        coefficients=coefficients, kernels=kernels, collectives=collectives, warnings=warnings,
    )  # fmt: skip
    return Fitted(document, warnings)


def _why_not(samples: Samples) -> str:
    """Return what kept most items from being measured, or what to do."""
    reasons = Counter(one.reason for one in samples.skipped)
    if not reasons or samples.items:
        return "measure for longer"
    reason, count = reasons.most_common(1)[0]
    return f"{count} of {len(samples.skipped)} were left out because: {reason}"


def kernel_fits(samples: Samples, device: Device, source: str, warnings: list[str]) -> dict[str, KernelFit]:
    """Return the fits of all kinds of kernels, by name."""
    found: dict[str, KernelFit] = {}
    for kind, names in SHAPES.items():
        for dtype in samples.labels(kind, "dtype"):
            items = samples.of(kind, dtype=dtype)
            what = f"{kind} {dtype}"
            if len(items) < FEWEST_KERNELS:
                warnings.append(f"{what}: {len(items)} shapes only; not fitted")
                continue
            shape = tuple(column(items, size) for size in names)
            fit = (fit_core if device.architecture == CORE else fit_kernel)(
                device, kind, dtype, shape, medians(items), source
            )
            if len(items) < WELL_FOUNDED:
                warnings.append(f"{what}: {len(items)} shapes only; sizes between them are uncertain")
            if fit.residual > POOR:
                warnings.append(f"{what}: the model misses the samples by {fit.residual:.0%} on average")
            found[f"{device.name}.{kind}.{dtype}"] = fit.model_copy(
                update={"ranges": dict(ranges(items, names)), "spread": typical_spread(items)}
            )
    return found


def typical_spread(items: Sequence[Sampled]) -> float:
    """Return the median over items of the spread of their repetitions."""
    return round(float(np.median([one.spread for one in items])), 4)


def outside(fit: KernelFit, sizes: Mapping[str, float], *, reach: float = 2.0) -> list[str]:
    """Return the sizes that lie beyond ``reach`` times the range that a fit was measured in, by name."""
    return [
        name
        for name, (low, high) in fit.ranges.items()
        if name in sizes and not low / reach <= sizes[name] <= high * reach
    ]


def collective_surface(
    samples: Samples, device: Device, base: Calibration, source: str, warnings: list[str]
) -> CollectiveSurface | None:
    """Return the collectives between devices of this model, ``None`` where there are too few samples."""
    items = [one for one in samples.of("collective") if one.labels.get("operation") in OPERATIONS]
    if len(items) < FEWEST_COLLECTIVES:
        if items:
            warnings.append(f"collectives: {len(items)} sizes only; not fitted")
        return None
    joined = shipped_attachment(device) or attachment(device, base)
    operation = np.asarray([OPERATIONS.index(one.labels["operation"]) for one in items], dtype=np.int64)
    rows = CollectiveSamples(
        operation, column(items, "bytes"), column(items, "ranks"), medians(items),
        joined.rate, joined.link, joined.reduces,
    )  # fmt: skip
    surface = fit_surface(rows, source)
    missing = sorted(set(OPERATIONS) - {one.labels["operation"] for one in items})
    if missing:
        warnings.append(f"collectives: no {', '.join(missing)} among the samples")
    if (surface.residual or 0.0) > POOR:
        warnings.append(f"collectives: the model misses the samples by {surface.residual:.0%} on average")
    return surface


__all__ = ["Coefficient", "Fitted", "fit_samples", "measured", "outside"]
