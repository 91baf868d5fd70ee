"""Rows of measured communication and what the cost model needs to know of the machines behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import Row, column, read_rows
from planner.calibrate.collectives import Samples
from planner.costs import Calibration, load_calibration
from planner.costs.domains import Attachment, attachment, generation
from planner.costs.protocols import OPERATIONS
from planner.errors import TopologyError
from planner.topology import Device, find_device

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MICRO = 1e-6
MACHINES = {"pairwise_nvlink": "pairs", "dgx": "nvswitch"}
"""How the name of a machine says that its GPUs are joined."""


@cache
def shipped() -> Calibration:
    """Return the shipped calibration."""
    return load_calibration()


def device_of(system: str) -> Device | None:
    """Return the catalogue's device of a system; ``None`` where it has none."""
    for name in (system, system.removesuffix("_server"), system.removesuffix("_sxm")):
        try:
            return find_device(name)
        except TopologyError:
            continue
    return None


def attached(system: str) -> Attachment:
    """Return how the GPUs of a system are joined; a system without a device is taken for a PCIe box."""
    device = device_of(system)
    if device is None:
        return Attachment("pcie", shipped().number("pcie_payload"), False)
    return attachment(device, shipped())


def _in_switch(system: str) -> float | None:
    device = device_of(system)
    known = None if device is None else shipped().coefficients.get(f"nvls_rate_{generation(device)}")
    return None if known is None else known.value


@dataclass(frozen=True)
class Table:
    """Collectives of many systems in one table.

    Attributes
    ----------
    rows
        Rows of the file, ordered as the arrays.
    names
        What a calibrated table stands for: a system, or a system with an engine and its mode.
    """

    rows: list[Row]
    names: NDArray[np.str_]
    operation: IntArray
    size: FloatArray
    group: FloatArray
    seconds: FloatArray

    def samples(self, rows: IntArray) -> Samples:
        """Return rows of one name."""
        system = self.rows[int(rows[0])]["system"]
        link = attached(system)
        return Samples(
            self.operation[rows], self.size[rows], self.group[rows], self.seconds[rows],
            link.rate, link.link, link.reduces, host=str(self.names[rows[0]]).endswith("/eager"),
            nvls=_in_switch(system),
        )  # fmt: skip

    def places(self) -> dict[str, IntArray]:
        """Return the rows of every name."""
        return {str(name): np.flatnonzero(self.names == name) for name in np.unique(self.names)}


def nccl_table(folder: Path) -> Table | None:
    """Return the NCCL table of a folder; ``None`` where there is none."""
    rows = [row for row in read_rows(folder / "nccl_collectives.csv") if row["op"] in OPERATIONS]
    return _table(rows, [row["system"] for row in rows], [row["op"] for row in rows])


def engine_table(folder: Path) -> Table | None:
    """Return the engines' table of a folder; ``None`` where there is none."""
    rows = read_rows(folder / "framework_allreduce.csv")
    names = [f"{row['system']}/{row['framework']}/{row['mode'] or 'default'}" for row in rows]
    return _table(rows, names, ["all_reduce"] * len(rows))


def _table(rows: list[Row], names: Sequence[str], operations: Iterable[str]) -> Table | None:
    if not rows:
        return None
    seconds = column(rows, "latency_us") * MICRO
    known = np.flatnonzero(np.isfinite(seconds) & (seconds > 0))
    codes = np.asarray([OPERATIONS.index(name) for name in operations])
    return Table(
        [rows[place] for place in known], np.asarray(names)[known], codes[known],
        column(rows, "message_bytes")[known], column(rows, "num_gpus")[known], seconds[known],
    )  # fmt: skip


def every_second_size(table: Table) -> IntArray:
    """Return 0 or 1 for every row: the place of its size among the sizes of its table, even or odd."""
    parity = np.zeros(len(table.size), dtype=np.int64)
    for rows in table.places().values():
        sizes = np.unique(table.size[rows])
        parity[rows] = np.searchsorted(sizes, table.size[rows]) % 2
    return parity
