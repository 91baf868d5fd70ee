"""All-reduce and send rows over nodes and NVLink pairs: a (machine, ranks) shape left out, and as shipped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.accuracy import Report, Row, column, cross_validate
from benchmarks.collective_fits import Tables, for_system, link_tables
from benchmarks.collective_rows import MICRO, FloatArray, IntArray, attached, shipped
from planner.calibrate.crossings import Crossing, Moves, fit_crossing, fit_send, moves_time
from planner.costs import Calibration
from planner.costs.domains import Domain
from planner.costs.link_surfaces import CollectiveSurface
from planner.costs.protocols import ProtocolCurve
from planner.errors import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MUST = 0.35
LEAST = float(1 << 20)


def kind_of(machine: str) -> str:
    """Return what joins the domains of a machine: ``pairs`` over PCIe or ``network``."""
    return "pairs" if "pair" in machine else "network"


def inside_of(machine: str, tables: Tables | None = None, sends: ProtocolCurve | None = None) -> Domain:
    """Return the collectives inside a machine's domains: of its GPUs on NVLink, pairs included."""
    gpu = machine.split("_")[0]
    link = attached(gpu)
    surface, origin = for_system(gpu, tables or link_tables(shipped()), own=True, link="nvlink")
    rate = link.rate if link.link == "nvlink" else shipped().number("nvlink_bridge")
    if sends is not None:
        curves = surface.curves | {"send": sends}
        surface = CollectiveSurface(**(surface.model_dump() | {"curves": curves}))
    return Domain(surface, rate, link.reduces and kind_of(machine) == "network", origin)


def prior_of(machine: str, calibration: Calibration, *, own: bool) -> Crossing:
    """Return a machine's crossing links: its own numbers where wanted and known, else those of its kind."""
    for name in (*([machine] if own else []), kind_of(machine)):
        if f"crossing.{name}.rate" in calibration.coefficients:
            return Crossing(
                calibration.number(f"crossing.{name}.rate"), calibration.number(f"crossing.{name}.latency"),
                calibration.number("crossing_sharing"),
            )  # fmt: skip
    raise CalibrationError(f"calibration {calibration.name!r} has no crossing of kind {kind_of(machine)!r}")


def moves_of(rows: list[Row]) -> tuple[Moves, FloatArray]:
    """Return the moves of rows and their median times, s."""
    moves = Moves(
        np.asarray([row["op"] == "all_reduce" for row in rows]), column(rows, "message_bytes"),
        column(rows, "num_workers"), column(rows, "devices_per_node"),
    )  # fmt: skip
    return moves, column(rows, "median_us") * MICRO


def crossing_cases(report: Report, rows: list[Row]) -> None:
    """Add the cases of moves over several domains."""
    rows = [row for row in rows if row["op"] in ("all_reduce", "send_recv") and row.get("median_us")]
    if not rows:
        return
    moves, seconds = moves_of(rows)
    machines = np.asarray([row["node_type"] for row in rows])
    shapes = [(r["node_type"], r["num_workers"], r["devices_per_node"]) for r in rows]
    large = moves.size >= LEAST

    def fitted(fit: IntArray, test: IntArray) -> FloatArray:
        guesses = np.full(len(rows), np.nan)
        for machine in np.unique(machines[test]):
            asked = test[machines[test] == machine]
            guesses[asked] = _predicted(str(machine), moves, seconds, fit, asked, machines)
        return guesses[test]

    left = cross_validate(shapes, fitted)
    sent = np.full(len(rows), np.nan)
    for machine in np.unique(machines):
        mine = np.flatnonzero(machines == machine)
        sent[mine] = _times(
            str(machine), moves.take(mine), prior_of(str(machine), shipped(), own=True), own=True
        )
    for label, guesses in (("left out: over nodes and pairs >= 1 MiB, a shape", left),
                           ("shipped: over nodes and pairs >= 1 MiB", sent)):  # fmt: skip
        report.summary[label] = report.scored(label, guesses[large], seconds[large], MUST).mape
        for shape in sorted(set(shapes)):
            chosen = large & np.asarray([one == shape for one in shapes])
            if chosen.any():
                report.scored(f"{label}: {' '.join(shape)}", guesses[chosen], seconds[chosen])


def _times(
    machine: str, moves: Moves, crossing: Crossing, sends: ProtocolCurve | None = None, *, own: bool = False
) -> FloatArray:
    host, ramp = shipped().number("crossing_host"), shipped().number("crossing_ramp")
    inside = inside_of(machine, sends=sends)
    measured = shipped().coefficients.get(f"crossing.{machine}.inside")
    if own and measured is not None:
        inside = replace(inside, rate=measured.value)
    return moves_time(moves, crossing, inside, host, ramp)


def sends_inside(
    moves: Moves, seconds: FloatArray, machines: NDArray[np.str_], rows: IntArray
) -> ProtocolCurve | None:
    """Return the curve of sends between GPUs that NVLink joins, from machines whose links are known."""
    known = [name for name in np.unique(machines) if attached(str(name).split("_")[0]).link == "nvlink"]
    inside = ~moves.reduce & (moves.near >= moves.ranks) & np.isin(machines, known)
    rows = rows[inside[rows]]
    rates = np.asarray([attached(str(machines[row]).split("_")[0]).rate for row in rows])
    return fit_send(moves.take(rows), seconds[rows], rates) if len(rows) else None


def _predicted(
    machine: str,
    moves: Moves,
    seconds: FloatArray,
    fit: IntArray,
    asked: IntArray,
    machines: NDArray[np.str_],
) -> FloatArray:
    """Return times from the machine's other shapes; where none crosses, from machines of its kind."""
    crossing = fit[moves.near[fit] < moves.ranks[fit]]
    own = crossing[machines[crossing] == machine]
    alike = crossing[
        np.asarray([kind_of(m) == "pairs" == kind_of(machine) for m in machines[crossing]], dtype=bool)
    ]
    prior = prior_of(machine, shipped(), own=False)
    rows = own if len(own) else alike
    sends = sends_inside(moves, seconds, machines, fit)
    found = _fit(machine, moves, seconds, rows, prior) if len(rows) else prior
    return _times(machine, moves.take(asked), found, sends)


def _fit(
    machine: str,
    moves: Moves,
    seconds: FloatArray,
    rows: IntArray,
    prior: Crossing,
    tables: Tables | None = None,
) -> Crossing:
    host, ramp = shipped().number("crossing_host"), shipped().number("crossing_ramp")
    return fit_crossing(moves.take(rows), seconds[rows], prior, inside_of(machine, tables), host, ramp)


def machine_sends(rows: list[Row]) -> ProtocolCurve | None:
    """Return the curve of sends inside NVLink domains, from all rows."""
    rows = [row for row in rows if row.get("median_us")]
    if not rows:
        return None
    moves, seconds = moves_of(rows)
    return sends_inside(moves, seconds, np.asarray([row["node_type"] for row in rows]), np.arange(len(rows)))


def machine_insides(rows: list[Row]) -> dict[str, float]:
    """Return the rate inside the domains of machines that the catalogue knows no NVLink of, bytes/s."""
    found = {}
    for machine in sorted({row["node_type"] for row in rows}):
        if attached(machine.split("_")[0]).link == "nvlink":
            continue
        moves, seconds = moves_of(
            [row for row in rows if row["node_type"] == machine and row.get("median_us")]
        )
        large = ~moves.reduce & (moves.near >= moves.ranks) & (moves.size >= 16 * LEAST)
        if large.any():
            found[machine] = float(np.median(moves.size[large] / seconds[large]))
    return found


def machine_crossings(rows: list[Row], tables: Tables) -> dict[str, Crossing]:
    """Return the fitted crossing links of every machine of the rows."""
    rows = [row for row in rows if row.get("median_us")]
    moves, seconds = moves_of(rows)
    machines = np.asarray([row["node_type"] for row in rows])
    found = {}
    for machine in np.unique(machines):
        mine = np.flatnonzero((machines == machine) & (moves.near < moves.ranks) & (moves.size >= LEAST / 8))
        if len(mine):
            prior = prior_of(str(machine), shipped(), own=False)
            found[str(machine)] = _fit(str(machine), moves, seconds, mine, prior, tables)
    return found
