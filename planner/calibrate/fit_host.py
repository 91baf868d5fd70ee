"""Coefficients that are single numbers: memory, launches, copies, managed memory, the speed of a core."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.calibrate.lines import Line, doubts, fit_line
from planner.calibrate.run.pace import PACE
from planner.calibrate.samples import Sampled, Samples, column, medians
from planner.costs import Calibration, load_calibration
from planner.costs.coefficients import Coefficient
from planner.costs.measured_host import CORE_SPEED
from planner.topology import Device

REACHED = 0.95
"""Share of the best rate from which a chunk of a pipelined copy counts as large enough."""


def host_coefficients(
    samples: Samples, device: Device, base: Calibration, source: str, warnings: list[str]
) -> dict[str, Coefficient]:
    """Return every coefficient that the samples tell; doubts go to ``warnings``."""
    found = _memory(samples, device, source, warnings) | _launches(samples, source)
    found |= _copies(samples, source, warnings)
    found |= _managed(samples, base, found, source, warnings)
    if found and samples.pulses:
        found[PACE] = Coefficient(
            value=samples.pace, provenance="measured", source=source, samples=samples.pulses
        )
    return found | _core_speed(samples, source)


def measured(value: float, items: Sequence[Sampled], source: str, line: Line | None = None) -> Coefficient:
    """Return a coefficient with its number of samples, their spread, and the residual of its fit."""
    spread = float(np.median([one.spread for one in items])) if items else None
    return Coefficient(
        value=float(f"{value:.4g}"), provenance="measured", source=source, samples=len(items),
        residual=None if line is None else round(line.residual, 4),
        spread=None if spread is None else round(spread, 4),
        curve=[] if line is None else line.curve,
    )  # fmt: skip


def _line(items: Sequence[Sampled], what: str, warnings: list[str], size: str = "bytes") -> Line | None:
    """Return the line through items, ``None`` with a warning where there are not two sizes."""
    if not items:
        return None
    sizes = column(items, size)
    if len(np.unique(sizes)) < 2:
        warnings.append(f"{what}: one size only; no start and no line can be told from it")
        return None
    line = fit_line(sizes, medians(items))
    warnings += doubts(what, line)
    return line


def _memory(samples: Samples, device: Device, source: str, warnings: list[str]) -> dict[str, Coefficient]:
    """Return the rate of large vectors, with the share of it that the small kernels of a layer reach."""
    large, small = samples.of("stream", op="add"), samples.of("stream", op="layer")
    if not large:
        if small:
            warnings.append("element-wise work: no large vectors among the samples; not fitted")
        return {}
    rate = float(np.median(column(large, "bytes") / medians(large)))
    bulk = measured(rate / device.memory_bandwidth.value, large, source)
    if not small:
        return {"memory_efficiency": bulk}
    launches = samples.of("launch", mode="graph") or samples.of("launch", mode="eager")
    start = 2.0 * launches[0].median if launches else 0.0  # a layer is priced as two kernels
    sizes, seconds = column(small, "bytes"), medians(small)
    reached = sizes / np.maximum(seconds - start, 0.05 * seconds) / rate
    points = {float(size): float(np.median(reached[sizes == size])) for size in np.unique(sizes)}
    points[max(2.0 * max(points), float(column(large, "bytes").min()))] = 1.0
    curve = [(float(f"{size:.4g}"), float(f"{share:.4g}")) for size, share in sorted(points.items())]
    count = len(large) + len(small)
    return {"memory_efficiency": bulk.model_copy(update={"curve": curve, "samples": count})}


def _launches(samples: Samples, source: str) -> dict[str, Coefficient]:
    eager, graph = samples.of("launch", mode="eager"), samples.of("launch", mode="graph")
    found = {}
    if eager:
        found["kernel_overhead"] = measured(eager[0].median, eager, source)
        found["graph_kernel_overhead"] = found["kernel_overhead"]  # a host's core has no graphs
    if graph:
        found["graph_kernel_overhead"] = measured(graph[0].median, graph, source)
    return found


def _copies(samples: Samples, source: str, warnings: list[str]) -> dict[str, Coefficient]:
    found: dict[str, Coefficient] = {}
    starts, rates, used = [], {}, []
    for way in ("in", "out"):
        for mode in ("pinned-copy", "pageable-copy"):
            items = samples.of("copy", mode=mode, way=way)
            line = _line(items, f"{mode} {way}", warnings)
            if line is None:
                if items:  # a rate without a start
                    rates[mode, way] = float(np.median(column(items, "bytes") / medians(items)))
                    if mode == "pinned-copy":
                        found[f"pinned_copy_{way}"] = measured(rates[mode, way], items, source)
                continue
            rates[mode, way] = line.rate
            if mode == "pinned-copy":
                starts.append(line.start)
                used += items
                found[f"pinned_copy_{way}"] = measured(line.rate, items, source, line)
    if starts:
        found["host_latency"] = measured(float(np.mean(starts)), used, source)
    ratios = [
        rates["pageable-copy", way] / rates["pinned-copy", way]
        for way in ("in", "out")
        if ("pageable-copy", way) in rates and ("pinned-copy", way) in rates
    ]
    if ratios:
        found["pageable_ratio"] = measured(
            float(np.mean(ratios)), samples.of("copy", mode="pageable-copy"), source
        )
    return found | _chunk(samples, source)


def _chunk(samples: Samples, source: str) -> dict[str, Coefficient]:
    items = samples.of("copy", mode="chunked")
    if not items:
        return {}
    rates = column(items, "bytes") / medians(items)
    enough = [one for one, rate in zip(items, rates, strict=True) if rate >= REACHED * rates.max()]
    return {"copy_chunk": measured(min(one.sizes["chunk"] for one in enough), items, source)}


def _managed(
    samples: Samples, base: Calibration, found: dict[str, Coefficient], source: str, warnings: list[str]
) -> dict[str, Coefficient]:
    """Return the time of a fault, given the group of pages that it brings (kept), and loads in place."""
    rate = found.get("pinned_copy_in")
    more: dict[str, Coefficient] = {}
    items = samples.of("managed", mode="fault")
    line = _line(items, "managed memory", warnings)
    if line is not None and rate is not None:
        group = base.number("managed_fault_bytes")
        served = group / line.rate - group / rate.value
        more["managed_fault"] = measured(max(served, 0.0), items, source, line).model_copy(
            update={"curve": []}
        )
    items = samples.of("coherent")
    line = _line(items, "coherent access", warnings)
    if line is not None and rate is not None:
        more["coherent_access_efficiency"] = measured(line.rate / rate.value, items, source, line).model_copy(
            update={"curve": []}
        )
    return more


def _core_speed(samples: Samples, source: str) -> dict[str, Coefficient]:
    """Return the speed of a core: decoded JPEG bytes per second beside those of the reference core."""
    items = samples.of("stage", stage="jpeg")
    if not items:
        return {}
    reference = load_calibration("host").number("reference_jpeg_rate")
    rate = float(np.median(column(items, "bytes") / medians(items)))
    return {
        CORE_SPEED: measured(
            rate / reference, items, f"{source}; JPEG decoding over reference_jpeg_rate of 'host'"
        )
    }
