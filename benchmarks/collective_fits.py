"""Tables for systems that were not measured, the specification's forecast, the shipped calibration."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import Report, column, read_rows
from benchmarks.collective_rows import (
    Table,
    attached,
    device_of,
    engine_table,
    nccl_table,
    shipped,
)  # fmt: skip
from planner.calibrate.collectives import Samples, filled, fit_surface, pooled, predict, uncontended
from planner.calibrate.exchange import fit_exchange
from planner.costs import Calibration
from planner.costs.domains import at_generation, generation
from planner.costs.expert_exchange import DIRECTIONS, MODES, NAMES
from planner.costs.link_surfaces import CollectiveSurface
from planner.costs.protocols import ProtocolCurve
from planner.schema import dump_yaml

Tables = dict[str, CollectiveSurface]
MUST_SPECIFICATION = 0.06
LARGE = float(1 << 28)


def link_tables(calibration: Calibration) -> Tables:
    """Return the tables of a calibration."""
    return dict(calibration.collectives)


def _family(name: str) -> str | None:
    device = device_of(name)
    return None if device is None else generation(device)


def for_system(
    name: str, tables: Tables, *, own: bool = False, link: str | None = None
) -> tuple[CollectiveSurface, str]:
    """Return the table for a system: its own where wanted, a sister's, or its kind of link's."""
    device, wanted = device_of(name), link or attached(name).link
    measured = {n: t for n, t in tables.items() if t.link == wanted and n not in ("nvlink", "pcie")}
    if own:
        for key in (name, "" if device is None else device.name):
            if key in measured:
                return measured[key], "own"
    common = [table for _, table in sorted(measured.items())]
    if wanted == "pcie":
        surface = tables.get("pcie") or uncontended(common[0] if common else None, attached(name).rate)
        return surface, "specification"
    everyone = tables.get("nvlink") or (
        pooled(common, "nvlink", "pooled") if common else shipped().collectives["nvlink"]
    )
    for other, table in measured.items():
        if _family(other) is not None and _family(other) == _family(name):
            return filled(table, everyone), "sister"
    return everyone if device is None else at_generation(everyone, device, shipped()), "specification"


def from_specification(report: Report, nccl: Table | None) -> None:
    """Score all-reduces of 256 MiB and more inside NVLink nodes, predicted without their own generation."""
    parts = [_large(table) for table in (nccl,) if table is not None]
    published = _published()
    points = [point for part in [*parts, published] for point in part]
    tables = link_tables(shipped())
    guesses, truth, groups = [], [], []
    for name, size, group, seconds in points:
        link = attached(name)
        if link.link != "nvlink":
            continue
        others = {
            n: t for n, t in tables.items() if n not in ("nvlink", "pcie") and _family(n) != _family(name)
        }
        surface, _ = for_system(name, others)
        one = Samples(
            np.zeros(1, dtype=np.int64), np.asarray([size]), np.asarray([group]), np.asarray([seconds]),
            link.rate, "nvlink", link.reduces,
        )  # fmt: skip
        guesses.append(float(predict(surface, one)[0]))
        truth.append(seconds)
        groups.append(name)
    if not truth:
        return
    label = "shipped: single-node all-reduce >= 256 MiB, specification alone"
    result = report.scored(label, np.asarray(guesses), np.asarray(truth), MUST_SPECIFICATION)
    report.summary["specification alone >= 256 MiB"] = result.mape
    report.summary["specification alone >= 256 MiB, worst"] = result.worst
    for name in sorted(set(groups)):
        chosen = np.asarray([one == name for one in groups])
        report.scored(f"{label}: {name}", np.asarray(guesses)[chosen], np.asarray(truth)[chosen])


Point = tuple[str, float, float, float]


def _large(table: Table) -> list[Point]:
    """Return the large all-reduces of a table."""
    chosen = np.flatnonzero((table.operation == 0) & (table.size >= LARGE))
    return [
        (table.rows[i]["system"], float(table.size[i]), float(table.group[i]), float(table.seconds[i]))
        for i in chosen
    ]


def _published() -> list[Point]:
    rows = read_rows(Path(__file__).with_name("published_all_reduce.csv"))
    size, group, rate = (column(rows, name) for name in ("message_bytes", "num_gpus", "busbw_GBps"))
    seconds = 2.0 * (group - 1.0) / group * size / (rate * 1e9)
    return [(row["device"], *values) for row, *values in zip(rows, size, group, seconds, strict=True)]


def write_calibration(folder: Path, path: Path) -> None:
    """Fit everything on a folder and write the calibration, keeping the coefficients that it does not fit."""
    tables = _fitted_tables(folder)
    kept = {n: c.model_dump(exclude_none=True) for n, c in shipped().coefficients.items() if _own(n)}
    document = {
        "schema": "calibration/1", "name": "collectives",
        "description": "Collectives in nodes, by engines, across nodes; benchmarks/collectives.py --write.",
        "date": datetime.now(UTC).date().isoformat(),
        "sources": {
            "ml": "stas00/ml-engineering @744d01e, network/README.md",
            "nccl": "NVIDIA/nccl 5067397c, src/graph/tuning.cc",
            "default": "stated default of this release",
            "tables": "ai-dynamo/aiconfigurator-core 0.12.0, measured NCCL, engine and DeepEP tables",
            "vidur": "microsoft/vidur 7d47513, data/profiling/network",
        },
        "coefficients": kept | _fitted_crossings(folder, tables) | _fitted_exchanges(folder),
        "collectives": {n: t.model_dump(exclude_none=True) for n, t in sorted(tables.items())},
        "engines": {n: t.model_dump(exclude_none=True) for n, t in sorted(_fitted_engines(folder).items())},
    }  # fmt: skip
    path.write_text(dump_yaml(document), encoding="utf-8")


def _fitted_tables(folder: Path) -> Tables:
    """Return the tables of every device, those of kinds of link, with the sends of NVLink domains."""
    from benchmarks.crossing_rows import machine_sends

    nccl, tables = nccl_table(folder), {}
    if nccl is not None:
        for name, rows in nccl.places().items():
            device = device_of(name)
            tables[name if device is None else device.name] = fit_surface(nccl.samples(rows), "tables")
    joined = [table for table in tables.values() if table.link == "nvlink"]
    boxes = [table for table in tables.values() if table.link == "pcie"]
    if joined:
        common = pooled(joined, "nvlink", "tables")
        tables = {n: filled(t, common) if t.link == "nvlink" else t for n, t in tables.items()}
        tables["nvlink"] = common
    tables["pcie"] = uncontended(boxes[0] if boxes else None, shipped().number("pcie_payload"))
    sends = machine_sends(read_rows(folder / "vidur_network.csv"))
    if sends is None:
        return tables
    return {n: _with(t, sends) if t.link == "nvlink" else t for n, t in tables.items()}


def _fitted_crossings(folder: Path, tables: Tables) -> dict[str, Any]:
    from benchmarks.crossing_rows import machine_crossings, machine_insides

    rows = read_rows(folder / "vidur_network.csv")
    numbers = {f"crossing.{machine}.inside": rate for machine, rate in machine_insides(rows).items()}
    for machine, crossing in machine_crossings(rows, tables).items() if rows else ():
        numbers[f"crossing.{machine}.rate"] = crossing.rate
        numbers[f"crossing.{machine}.latency"] = crossing.latency
    return {name: _measured(value, "vidur") for name, value in numbers.items()}


def _fitted_exchanges(folder: Path) -> dict[str, Any]:
    from benchmarks.exchange_rows import exchange_batch, exchange_seconds

    rows = read_rows(folder / "moe_deepep_multinode.csv")
    found: dict[str, Any] = {}
    for mode, direction in product(MODES, DIRECTIONS):
        part = [row for row in rows if row["deepep_mode"] == mode]
        if part:
            seconds = exchange_seconds(part, mode, direction)
            numbers = fit_exchange(mode, direction, exchange_batch(part, direction), seconds)
            for name, value in zip(NAMES[mode], numbers, strict=True):
                found[f"exchange.{mode}.{direction}.{name}"] = _measured(value, "tables") | {
                    "samples": len(part)
                }
    return found


def _fitted_engines(folder: Path) -> Tables:
    engines, found = engine_table(folder), {}
    if engines is not None:
        for name, places in engines.places().items():
            system, engine, mode = name.split("/")
            device = device_of(system)
            key = f"{system if device is None else device.name}/{engine}/{mode}"
            found[key] = fit_surface(engines.samples(places), "tables")
    return found


def _measured(value: float, source: str) -> dict[str, Any]:
    return {"value": float(f"{value:.4g}"), "provenance": "measured", "source": source}


def _with(table: CollectiveSurface, sends: ProtocolCurve) -> CollectiveSurface:
    return CollectiveSurface(**(table.model_dump() | {"curves": table.curves | {"send": sends}}))


def _own(name: str) -> bool:
    """Whether a coefficient belongs to this part of the calibration."""
    return name.startswith(
        (
            "exchange.",
            "crossing",
            "network_step",
            "pcie_payload",
            "port_",
            "nvlink_payload",
            "nvlink_bridge",
            "nvls_rate",
        )
    )
