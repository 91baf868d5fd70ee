"""Predicted against measured collectives: inside a node, by engines, across nodes, expert exchange.

``python -m benchmarks.collectives FOLDER [--json OUT] [--write CALIBRATION]``: the folder holds
``nccl_collectives.csv``, ``framework_allreduce.csv``, ``vidur_network.csv`` and
``moe_deepep_multinode.csv``, each optional. Cases that begin with ``shipped:`` use the shipped calibration,
those with ``left out:`` a fit on the folder without the group that they predict. ``--write`` fits everything
and writes the calibration.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.accuracy import Report, cross_validate, read_rows
from benchmarks.collective_fits import (
    for_system,
    from_specification,
    link_tables,
    write_calibration,
)  # fmt: skip
from benchmarks.collective_rows import (
    FloatArray,
    IntArray,
    Table,
    device_of,
    engine_table,
    every_second_size,
    nccl_table,
    shipped,
)  # fmt: skip
from benchmarks.crossing_rows import crossing_cases
from benchmarks.exchange_rows import exchange_cases
from benchmarks.scatter import scatter
from planner.calibrate.collectives import fit_surface, predict
from planner.costs.engine_collectives import engine_surface
from planner.costs.scores import Score
from planner.errors import CalibrationError

SIZES, ENGINE_SIZES = 0.06, 0.08
FIGURES = {
    "sizes": "left out: NCCL, every second size: ",
    "engines": "left out: engine all-reduce, every second size: ",
    "crossings": "left out: over nodes and pairs >= 1 MiB, a shape: ",
    "exchange": "left out: DeepEP, a node count: ",
}
"""Names of figures, and the cases that they show by how these begin."""


def main() -> None:
    """Score, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of measured communication")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--figures", type=Path, help="folder to draw predicted over measured times in")
    parser.add_argument("--write", type=Path, help="calibration to write, fitted on the folder")
    arguments = parser.parse_args()
    if arguments.write is not None:
        write_calibration(arguments.folder, arguments.write)
        return
    report = run(arguments.folder)
    if arguments.figures is not None:
        report.draw(arguments.figures)
    print(report.table())
    report.write(arguments.json)


@dataclass
class Drawn(Report):
    """A report that keeps the times behind its cases."""

    kept: dict[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)

    def scored(
        self, case: str, predicted: FloatArray, measured: FloatArray, reference: float | None = None
    ) -> Score:
        """Add the errors of a case and keep its times."""
        self.kept[case] = (predicted, measured)
        return super().scored(case, predicted, measured, reference)

    def draw(self, folder: Path) -> None:
        """Draw the cases that figures are made of."""
        for name, start in FIGURES.items():
            groups = {
                case.removeprefix(start): pair for case, pair in self.kept.items() if case.startswith(start)
            }
            if groups:
                scatter(folder / f"collectives-{name}.svg", groups, "s")


def run(folder: Path) -> Drawn:
    """Return all figures of a folder."""
    report = Drawn("collectives")
    nccl, engines = nccl_table(folder), engine_table(folder)
    if nccl is not None:
        _sizes(report, nccl, "NCCL", SIZES)
        _systems(report, nccl)
        _shipped_systems(report, nccl)
    if engines is not None:
        _sizes(report, engines, "engine all-reduce", ENGINE_SIZES)
        _shipped_engines(report, engines)
    crossing_cases(report, read_rows(folder / "vidur_network.csv"))
    exchange_cases(report, read_rows(folder / "moe_deepep_multinode.csv"))
    from_specification(report, nccl)
    return report


def _sizes(report: Report, table: Table, what: str, must: float) -> None:
    """Score every second size left out, beside the line and interpolation between sizes."""
    parity = every_second_size(table)

    def fitted(fit: IntArray, test: IntArray) -> FloatArray:
        guesses = np.full(len(table.size), np.nan)
        for rows in table.places().values():
            known, asked = np.intersect1d(rows, fit), np.intersect1d(rows, test)
            if len(known) and len(asked):
                guesses[asked] = predict(fit_surface(table.samples(known), what), table.samples(asked))
        return guesses[test]

    guesses = cross_validate(list(parity), fitted)
    case = f"left out: {what}, every second size"
    report.summary[f"{what}: every second size"] = report.scored(case, guesses, table.seconds, must).mape
    for name, rows in table.places().items():
        report.scored(f"{case}: {name}", guesses[rows], table.seconds[rows])
    for baseline, curve in (("alpha-beta", _line), ("log-log interpolation", _interpolated)):
        other = cross_validate(list(parity), lambda fit, test, c=curve: _by_series(table, fit, test, c))  # type: ignore[misc]
        report.scored(f"baseline {baseline}: {what}, every second size", other, table.seconds)


def _by_series(table: Table, fit: IntArray, test: IntArray, curve: object) -> FloatArray:
    guesses = np.full(len(table.size), np.nan)
    keys = np.asarray(
        [f"{a}|{b}|{c}" for a, b, c in zip(table.names, table.operation, table.group, strict=True)]
    )
    for key in np.unique(keys):
        known, asked = fit[keys[fit] == key], test[keys[test] == key]
        if len(known) > 1 and len(asked):
            order = known[np.argsort(table.size[known])]
            guesses[asked] = curve(table.size[order], table.seconds[order], table.size[asked])  # type: ignore[operator]
    return guesses[test]


def _line(size: FloatArray, seconds: FloatArray, at: FloatArray) -> FloatArray:
    """Return the line with least squared relative error."""
    matrix = np.stack([1.0 / seconds, size / seconds], axis=1)
    alpha, beta = np.linalg.lstsq(matrix, np.ones(len(size)), rcond=None)[0]
    return np.asarray(alpha + beta * at)


def _interpolated(size: FloatArray, seconds: FloatArray, at: FloatArray) -> FloatArray:
    """Return times interpolated between logarithms; beyond the last size the last rate holds."""
    times = np.exp(np.interp(np.log(at), np.log(size), np.log(seconds)))
    return np.asarray(times * np.maximum(at / size[-1], 1.0))


def _systems(report: Report, table: Table) -> None:
    """Score every system predicted from the others of the folder."""
    places = table.places()
    fitted = {name: fit_surface(table.samples(rows), name) for name, rows in places.items()}
    guesses = np.full(len(table.size), np.nan)
    for name, rows in places.items():
        others = {other: surface for other, surface in fitted.items() if other != name}
        surface, origin = for_system(name, others)
        guesses[rows] = predict(surface, table.samples(rows))
        report.scored(f"left out: NCCL, a system: {name} ({origin})", guesses[rows], table.seconds[rows])
    result = report.scored("left out: NCCL, a system", guesses, table.seconds)
    report.summary["NCCL: a system (report)"] = result.mape


def _shipped_systems(report: Report, table: Table) -> None:
    tables = link_tables(shipped())
    guesses = np.full(len(table.size), np.nan)
    for name, rows in table.places().items():
        surface, origin = for_system(name, tables, own=True)
        guesses[rows] = predict(surface, table.samples(rows))
        report.scored(f"shipped: NCCL: {name} ({origin})", guesses[rows], table.seconds[rows])
    report.summary["shipped: NCCL"] = report.scored("shipped: NCCL", guesses, table.seconds, SIZES).mape


def _shipped_engines(report: Report, table: Table) -> None:
    guesses = np.full(len(table.size), np.nan)
    for name, rows in table.places().items():
        system, engine, mode = name.split("/")
        device = device_of(system)
        if device is not None:
            try:
                surface = engine_surface(device, shipped(), engine, mode)
            except CalibrationError:
                continue
            guesses[rows] = predict(surface, table.samples(rows))
        report.scored(f"shipped: engine all-reduce: {name}", guesses[rows], table.seconds[rows])
    result = report.scored("shipped: engine all-reduce", guesses, table.seconds, ENGINE_SIZES)
    report.summary["shipped: engine all-reduce"] = result.mape


if __name__ == "__main__":
    main()
