"""Larger flow traces: ``python -m benchmarks.flow_scenarios FOLDER [--only NAME]``.

Random flows on a fat tree of up to 1,024 GPUs, and an all-to-all between the GPUs of nodes with one switch
inside and a network port per GPU. Seeded. Finish times are not recorded: ``benchmarks.flow_oracle FOLDER
--simgrid`` compares them where SimGrid is installed.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

PORT, INSIDE = 50e9, 450e9
"""Rates of a network port and of a GPU inside its node, bytes/s; planning figures."""
HOP = 1e-6
PER_LEAF = 16


class Fabric:
    """Directed links by the names of their ends."""

    def __init__(self) -> None:
        self.links: list[dict[str, Any]] = []
        self._known: dict[tuple[str, str], int] = {}

    def link(self, source: str, target: str, rate: float) -> int:
        """Return the number of a link, which is new at its first mention."""
        key = source, target
        if key not in self._known:
            self._known[key] = len(self.links)
            parts = {"id": len(self.links), "src": source, "dst": target, "kind": "link"}
            self.links.append(parts | {"bandwidth_Bps": rate, "latency_s": HOP})
        return self._known[key]

    def path(self, names: list[str], rates: list[float]) -> list[int]:
        """Return the links between neighbours in a list of names."""
        return [
            self.link(here, there, rate) for (here, there), rate in zip(pairwise(names), rates, strict=False)
        ]


def fat_tree_path(fabric: Fabric, source: int, target: int, spines: int, pick: int) -> list[int]:
    """Return a way between two GPUs over their leaf switches and, where these differ, a spine."""
    here, there = f"leaf{source // PER_LEAF}", f"leaf{target // PER_LEAF}"
    ends = [f"gpu{source}", here], [there, f"gpu{target}"]
    if here == there:
        return fabric.path([f"gpu{source}", here, f"gpu{target}"], [PORT, PORT])
    up = PORT * PER_LEAF / spines
    return fabric.path([*ends[0], f"spine{pick % spines}", *ends[1]], [PORT, up, up, PORT])


def random_flows(gpus: int, count: int, load: float, seed: int) -> dict[str, Any]:
    """Return Poisson arrivals of flows of 2^20 to 2^28 bytes that offer a share of the ports' capacity."""
    draw, fabric = np.random.default_rng(seed), Fabric()
    sizes = np.exp2(draw.uniform(20.0, 28.0, count)).astype(np.int64)
    starts = np.cumsum(draw.exponential(float(sizes.mean()) / (load * gpus * PORT), count))
    ends = draw.integers(0, gpus, (count, 2))
    ends[:, 1] = (ends[:, 0] + 1 + ends[:, 1] % (gpus - 1)) % gpus
    picks = draw.integers(0, 16, count)
    paths = [
        fat_tree_path(fabric, source, target, 16, pick)
        for (source, target), pick in zip(ends.tolist(), picks.tolist(), strict=True)
    ]
    return document(
        f"fat tree, {gpus} GPUs, load {load}", seed, fabric, starts.tolist(), sizes.tolist(), paths
    )


def all_to_all(gpus: int, per_node: int, seed: int) -> dict[str, Any]:
    """Return one flow of some megabytes between each two GPUs, all at once."""
    draw, fabric = np.random.default_rng(seed), Fabric()
    paths, sizes = [], []
    for source in range(gpus):
        for target in range(gpus):
            if source == target:
                continue
            mine, other = source // per_node, target // per_node
            names, rates = [f"gpu{source}", f"nvswitch{mine}", f"gpu{target}"], [INSIDE, INSIDE]
            if mine != other:
                rail, spine = source % per_node, (source + target) % 4
                names = [f"gpu{source}", f"pcie{source}", f"nic{source}", f"leaf{mine % 2}.{rail}",
                         f"spine{spine}", f"leaf{other % 2}.{target % per_node}", f"nic{target}",
                         f"pcie{target}", f"gpu{target}"]  # fmt: skip
                rates = [64e9, 64e9, PORT, 8 * PORT, 8 * PORT, PORT, 64e9, 64e9]
            paths.append(fabric.path(names, rates))
            sizes.append(int(draw.integers(2**20, 2**23)))
    return document(f"all-to-all, {gpus} GPUs", seed, fabric, [0.0] * len(sizes), sizes, paths)


def document(
    name: str, seed: int, fabric: Fabric, starts: list[float], sizes: list[int], paths: list[list[int]]
) -> dict[str, Any]:
    """Return a trace of the form ``flow-oracle/1``."""
    rows = zip(starts, sizes, paths, strict=True)
    flows = [
        {"id": place, "start_s": start, "delay_s": 0.0, "size_B": size, "path": path, "deps": []}
        for place, (start, size, path) in enumerate(rows)
    ]
    return {"format": "flow-oracle/1", "name": name, "seed": seed, "links": fabric.links, "flows": flows}


SCENARIOS: dict[str, Callable[[], dict[str, Any]]] = {
    "random-64-10000": lambda: random_flows(64, 10_000, 0.6, 1),
    "fattree-128-10000": lambda: random_flows(128, 10_000, 0.4, 2),
    "fattree-1024-10000": lambda: random_flows(1024, 10_000, 0.6, 3),
    "fattree-1024-100000": lambda: random_flows(1024, 100_000, 0.3, 4),
    "a2a-96": lambda: all_to_all(96, 8, 5),
}


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.flow_scenarios", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the traces")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="write this one; may be repeated")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.only or SCENARIOS:
        text = json.dumps(SCENARIOS[name](), separators=(",", ":"))
        (options.folder / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), 6, mtime=0))


if __name__ == "__main__":
    main()
