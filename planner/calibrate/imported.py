"""Outputs of benchmark tools as a document of samples, ready to be fitted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from planner.calibrate.importers import BenchOutput, Sample, read
from planner.calibrate.samples import Sampled, Samples
from planner.calibrate.tables import is_table, read_table
from planner.costs.protocols import OPERATIONS
from planner.errors import CalibrationError
from planner.topology import find_device

LONGEST = 1e6
"""No copy and no collective takes longer, s."""
BULK = float(1 << 29)
"""Size that a rate without a size is taken to hold for, bytes: the default of nvbandwidth."""
_COLLECTIVES = {"sendrecv": "send", "all_to_all": "alltoall", "send_recv": "send"}
_COPIES = (
    (re.compile(r"bandwidthTest-H2D-(\w+)"), "in"),
    (re.compile(r"bandwidthTest-D2H-(\w+)"), "out"),
    (re.compile(r"host_to_device_memcpy_ce"), "in"),
    (re.compile(r"device_to_host_memcpy_ce"), "out"),
    (re.compile(r"cpu_to_gpu\d+_by_dma_under_numa\d+"), "in"),
    (re.compile(r"gpu\d+_to_cpu_by_dma_under_numa\d+"), "out"),
)
_PEERS = (
    re.compile(r"device_to_device_memcpy_(?:read|write)_ce"),
    re.compile(r"Unidirectional P2P=Enabled Bandwidth.*Matrix"),
    re.compile(r"gpu\d+_to_gpu\d+_write_by_dma"),
)


def import_files(files: Iterable[Path], device: str, name: str | None = None) -> Samples:
    """Return what files say of a device, joined.

    Parameters
    ----------
    device
        Name of the device in the catalogue; no output tells it for certain.

    Raises
    ------
    CalibrationError
        If a file cannot be read for certain, or none holds anything that a calibration rests on.
    TopologyError
        If no device has the name.
    """
    known = find_device(device).name
    items: dict[str, list[Sampled]] = {}
    warnings: list[str] = []
    versions: dict[str, str] = {}
    products: list[str] = []
    for path in files:
        if is_table(path):
            found = read_table(path, warnings)
        else:
            output = read(path)
            found = list(samples_of(output, path.name, warnings))
            versions |= {key: str(value) for key, value in output.versions.items()}
            products += output.devices
        for one in found:
            items.setdefault(one.item, []).append(one)
    if not items:
        why = "".join(f"; {one}" for one in warnings)
        raise CalibrationError(
            f"the files hold no copies, collectives or kernels that a coefficient rests on{why}"
        )
    joined = [
        group[0].model_copy(update={"seconds": [second for one in group for second in one.seconds]})
        for group in items.values()
    ]
    return Samples(
        name=name or f"{known}-imported", device=known, product=products[0] if products else "",
        driver=versions.get("driver", versions.get("Driver Version", "")), versions=versions, complete=True,
        warnings=warnings, items=joined,
    )  # fmt: skip


def samples_of(output: BenchOutput, name: str, warnings: list[str]) -> list[Sampled]:
    """Return the points of one output that coefficients rest on; the rest is said once by operation."""
    warnings += [f"{name}: {warning}" for warning in output.warnings]
    found, left = [], []
    for sample in output.samples():
        one = _sampled(sample)
        if one is None:
            left.append(sample.operation)
        else:
            found.append(one)
    for operation in dict.fromkeys(left):
        warnings.append(f"{name}: {operation}: {left.count(operation)} points that no coefficient rests on")
    return found


def _sampled(sample: Sample) -> Sampled | None:
    size = BULK if sample.size is None else sample.size
    if size <= 0.0:
        return None
    seconds = sample.time if sample.time is not None else size / sample.rate if sample.rate else 0.0
    if not 0.0 < seconds <= LONGEST:
        return None
    operation = _COLLECTIVES.get(sample.operation, sample.operation)
    if operation in OPERATIONS:
        if sample.ranks is None or sample.time is None:
            return None
        return Sampled(
            item=f"collective {operation} {size:g} x{sample.ranks}", kind="collective",
            sizes={"bytes": size, "ranks": float(sample.ranks)}, labels={"operation": operation},
            seconds=[seconds],
        )  # fmt: skip
    return _copy(sample, size, seconds)


def _copy(sample: Sample, size: float, seconds: float) -> Sampled | None:
    for pattern, way in _COPIES:
        match = pattern.fullmatch(sample.operation)
        if match:
            pageable = bool(match.groups()) and match.group(1).casefold() == "paged"
            mode = "pageable-copy" if pageable else "pinned-copy"
            return Sampled(
                item=f"copy {mode} {way} {size:g}", kind="copy", sizes={"bytes": size},
                labels={"mode": mode, "way": way}, seconds=[seconds],
            )  # fmt: skip
    ends = sample.place.split(" -> ")
    if len(ends) == 2 and ends[0] != ends[1] and any(one.fullmatch(sample.operation) for one in _PEERS):
        return Sampled(
            item=f"peer {ends[0]}-{ends[1]} {size:g}", kind="peer", sizes={"bytes": size},
            labels={"from": ends[0], "to": ends[1]}, seconds=[seconds],
        )  # fmt: skip
    return None
