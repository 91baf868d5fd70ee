"""Fit the scalar coefficients of the default calibration on folders of measured kernels and collectives.

``python -m benchmarks.first_fit FOLDER... [--json OUT]``: each folder may hold ``gemm.csv`` and
``attention.csv`` (kernel times), ``nccl_collectives.csv`` (one node) and tables of all-reduce rates over
several nodes (``allreduce_bench_*_node.md``). Values are medians over large sizes, so a few odd rows do no
harm; the residual is the mean relative error of the time that the median predicts, over the same rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planner.topology import Device, Topology, load_topology

FloatArray = NDArray[np.float64]
Row = dict[str, str]

DEVICES = {"h100_sxm": "dgx-h100", "a100_sxm": "dgx-a100", "gb200": "gb200-nvl72", "l40s": "pcie-4090x8"}
"""Systems of the tables and shipped machines with the same links (the L40S stands on PCIe 4, as the 4090)."""
NETWORK_PORTS = {"allreduce_bench_b200_p6_1node_4node.md": 400e9}
"""All network ports of a node together, bytes/s, as the table's own heading states them."""
MICRO = 1e-6
LARGE_GEMM, SMALL_GEMM, LARGE_ATTENTION = 1e11, 2e9, 5e10  # FLOP
LARGE_READ, SMALL_READ = 3e7, 2e6  # bytes
LARGE_MESSAGE, SMALL_MESSAGE = 64 << 20, 256 << 10  # bytes


@dataclass(frozen=True)
class Fit:
    """A coefficient, the mean relative error of the times that it predicts, and the number of rows."""

    name: str
    value: float
    residual: float
    samples: int
    spread: tuple[float, float]


def median_fit(name: str, ratios: Iterable[float]) -> Iterator[Fit]:
    """Yield the median of ideal over measured time, its residual and its quartiles; nothing without rows."""
    values = np.asarray(list(ratios))
    if len(values):
        middle = float(np.median(values))
        low, high = np.quantile(values, [0.25, 0.75])
        yield Fit(name, middle, float(np.mean(np.abs(values / middle - 1.0))), len(values), (low, high))


def read(folders: list[Path], name: str) -> list[Row]:
    """Return the rows of every file of a name."""
    rows: list[Row] = []
    for folder in folders:
        if (folder / name).is_file():
            with (folder / name).open(newline="") as stream:
                rows.extend(csv.DictReader(stream))
    return [row for row in rows if row["system"] in DEVICES]


@cache
def machine(system: str) -> Topology:
    """Return the shipped machine of a system."""
    return load_topology(DEVICES[system])


def device_of(row: Row) -> Device:
    """Return the catalogue's device of a row's system."""
    topology = machine(row["system"])
    return topology.device(topology.gpus[0])


def seconds(row: Row) -> float:
    """Return the measured time of a row, s."""
    return float(row["latency_us"]) * MICRO


def fit_kernels(gemm: list[Row], attention: list[Row]) -> Iterator[Fit]:
    """Yield the compute and memory efficiencies and the fixed time of a kernel, all for bf16."""
    rows = [row for row in gemm if row["dtype"] == "bfloat16" and row["system"] != "l40s"]
    fixed = [seconds(row) for row in rows if moved(row) < SMALL_READ and operations(row) < SMALL_GEMM]
    yield from median_fit("kernel_overhead", fixed)
    overhead = float(np.median(fixed)) if fixed else 0.0
    reads = [
        moved(row) / device_of(row).memory_bandwidth.value / (seconds(row) - overhead)
        for row in rows
        if int(row["m"]) <= 64 and moved(row) >= LARGE_READ
    ]
    yield from median_fit("memory_efficiency", reads)
    large = [
        operations(row) / device_of(row).matmul["bf16"].value / seconds(row)
        for row in rows
        if operations(row) >= LARGE_GEMM
    ]
    yield from median_fit("matmul_efficiency", large)
    efficiency = float(np.median(large)) if large else 1.0
    core = [
        attention_flops(row) / device_of(row).matmul["bf16"].value / efficiency / seconds(row)
        for row in attention
        if row["phase"] == "context" and attention_flops(row) >= LARGE_ATTENTION
    ]
    yield from median_fit("attention_efficiency", core)


def operations(row: Row) -> float:
    """Return the operations of a matrix multiplication."""
    return 2.0 * float(row["m"]) * float(row["n"]) * float(row["k"])


def moved(row: Row) -> float:
    """Return the bytes that a matrix multiplication reads and writes at least, bf16."""
    m, n, k = (float(row[name]) for name in "mnk")
    return 2.0 * (m * k + n * k + m * n)


def attention_flops(row: Row) -> float:
    """Return the operations of causal attention over a prompt."""
    batch, length, heads, width = (
        float(row[name]) for name in ("batch_size", "isl", "num_heads", "head_dim")
    )
    return 2.0 * batch * length * length / 2.0 * 2.0 * heads * width


def volume(row: Row) -> float:
    """Return the bytes that each GPU sends per byte of the message, ring algorithm."""
    group = float(row["num_gpus"])
    return (2.0 if row["op"] == "all_reduce" else 1.0) * (group - 1.0) / group


def link_rate(row: Row) -> float:
    """Return the rate of the innermost level of a row's machine, bytes/s."""
    return machine(row["system"]).hierarchy.levels[0].rate


def fit_links(rows: list[Row]) -> Iterator[Fit]:
    """Yield the shares of NVLink, in-switch reduction and PCIe that large messages reach."""
    fixed = fixed_times(rows)
    ring, reduced, pcie = [], [], []
    for row in rows:
        if float(row["message_bytes"]) < LARGE_MESSAGE:
            continue
        wire = max(seconds(row) - fixed(row), 1e-9)
        ideal = float(row["message_bytes"]) / link_rate(row)
        if row["system"] == "l40s":
            pcie.extend([ideal * volume(row) / wire] if row["num_gpus"] == "2" else [])
        elif row["op"] == "all_reduce" and row["num_gpus"] == "8" and row["system"] == "h100_sxm":
            reduced.append(ideal / wire)
        elif row["op"] != "alltoall":
            ring.append(ideal * volume(row) / wire)
    yield from median_fit("nvlink_efficiency", ring)
    yield from median_fit("nvls_efficiency", reduced)
    yield from median_fit("pcie_efficiency", pcie)


def halving_steps(row: Row) -> float:
    """Return the steps of a collective by halving and doubling; messages to all peers go in one."""
    if row["op"] == "alltoall":
        return 1.0
    return (2.0 if row["op"] == "all_reduce" else 1.0) * float(np.log2(float(row["num_gpus"])))


def fixed_times(rows: list[Row]) -> Callable[[Row], float]:
    """Return the time of a small message of the same system, operation and group, s."""
    small: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        if float(row["message_bytes"]) <= SMALL_MESSAGE:
            small.setdefault((row["system"], row["op"], row["num_gpus"]), []).append(seconds(row))
    return lambda row: float(np.median(small.get((row["system"], row["op"], row["num_gpus"]), [0.0])))


def fit_latencies(rows: list[Row]) -> Iterator[Fit]:
    """Yield the launch of a collective and the software time of a step: least squares over small messages."""
    small = [r for r in rows if float(r["message_bytes"]) <= SMALL_MESSAGE and r["system"] != "l40s"]
    if not small:
        return
    steps = np.asarray([halving_steps(row) for row in small])
    times = np.asarray([seconds(row) for row in small])
    wire = np.asarray([machine(r["system"]).hierarchy.levels[0].latency for r in small])
    weight = 1.0 / times
    matrix = np.stack([np.ones_like(steps), steps], axis=1) * weight[:, None]
    launch, step = np.linalg.lstsq(matrix, (times - steps * wire) * weight, rcond=None)[0]
    error = float(np.mean(np.abs((launch + steps * (step + wire)) / times - 1.0)))
    yield Fit("collective_launch", float(launch), error, len(small), (float(launch), float(launch)))
    yield Fit("collective_step_overhead", float(step), error, len(small), (float(step), float(step)))


def fit_network(folders: list[Path]) -> Iterator[Fit]:
    """Yield the share of the network ports that all-reduces of 512 MiB and more over four nodes reach."""
    shares = []
    for folder in folders:
        for name, ports in NETWORK_PORTS.items():
            if (folder / name).is_file():
                found = re.findall(
                    r"\|\s*(\d+)(MiB|GiB)\s*\|[^|]*\|\s*([\d.]+)GBps", (folder / name).read_text()
                )
                shares += [
                    float(rate) * 1e9 / ports
                    for size, unit, rate in found
                    if unit == "GiB" or int(size) >= 512
                ]
    yield from median_fit("network_efficiency", shares)


def main() -> None:
    """Fit, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path, help="folders of measurements")
    parser.add_argument("--json", type=Path, help="file to write the coefficients to")
    arguments = parser.parse_args()
    links = read(arguments.folders, "nccl_collectives.csv")
    fits = [
        *fit_kernels(read(arguments.folders, "gemm.csv"), read(arguments.folders, "attention.csv")),
        *fit_links(links),
        *fit_latencies(links),
        *fit_network(arguments.folders),
    ]
    print(f"{'coefficient':26} {'value':>10} {'residual':>9} {'samples':>8}  quartiles")
    for fit in fits:
        low, high = fit.spread
        print(
            f"{fit.name:26} {fit.value:10.3g} {fit.residual:9.1%} {fit.samples:8d}  {low:.3g} to {high:.3g}"
        )
    if arguments.json:
        rows = [{"case": f.name, "metric": "coefficient", "value": f.value, "residual": f.residual,
                 "samples": f.samples} for f in fits]  # fmt: skip
        document = {"benchmark": "first_fit", "rows": rows, "summary": {"coefficients": len(rows)}}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
