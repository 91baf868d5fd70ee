"""Two small building blocks, a service for them, and a runner whose outcomes come from a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from planner.study.recommend import Block, By, Question, load_block
from planner.study.whatif import Options, Outcome, Runner, Scenario
from planner.study.whatif.running import serial
from tests.study.clusters import box

SERVICE = """\
schema: workload/1
name: chat
jobs:
- kind: serving
  name: chat
  model:
    dims:
      {name: small, layers: 16, hidden: 2048, ffn: 8192, heads: 8, kv_heads: 8, head_dim: 256, vocab: 32000}
  degrees: {pp: [1]}
  traffic: {rate: 20 req/s, prompt: {mean: 500, cv: 0.5}, output: {mean: 60, cv: 0.5}}
  slo: {tpot_p99: 6 ms, ttft_p99: 60 ms}
"""
PRICES = {"one": 4.0, "two": 7.0}


def write_blocks(folder: Path) -> tuple[Path, Path, Path]:
    """Write a machine of one GPU, one of two, and the service; return their paths."""
    paths = folder / "one.yaml", folder / "two.yaml", folder / "chat.yaml"
    for path, gpus in zip(paths, (1, 2), strict=False):
        text = f"schema: topology/1\nname: {path.stem}\nmachines:\n{box(path.stem, gpus=gpus)}\n"
        path.write_text(text.replace("gpu[0-0]", "gpu0"), encoding="utf-8")
    paths[2].write_text(SERVICE, encoding="utf-8")
    return paths


@cache
def blocks_in(folder: Path, most: int) -> tuple[Block, ...]:
    """Return both blocks, each as often as allowed."""
    return tuple(
        load_block(str(path), None, PRICES[path.stem], most)
        for path in (folder / "one.yaml", folder / "two.yaml")
    )


def question(folder: Path, by: By, loads: tuple[float, ...], *, most: int = 3, mix: bool = False) -> Question:
    """Return what is asked of the small blocks."""
    options = Options(hold_limits=True, requests=300, time_limit=20.0)
    blocks = blocks_in(folder, most)
    return Question(str(folder / "chat.yaml"), blocks, by, loads, max_nodes=most, mix=mix, options=options)


class TableRunner(Runner):
    """A runner that knows which cluster holds which load without solving anything."""

    def __init__(self, holds: Callable[[str, float], bool]) -> None:
        super().__init__(Path("nowhere"), serial)
        self.holds, self.looked = holds, 0

    def run(self, scenarios: Sequence[Scenario]) -> list[Outcome]:
        """Return an outcome with good figures where the table says so, else an infeasible one."""
        self.looked += len(scenarios)
        return [self._outcome(one.labels) for one in scenarios]

    def _outcome(self, labels: dict[str, str]) -> Outcome:
        load = float(labels["load"].removesuffix(" x"))
        if not self.holds(labels["cluster"], load):
            return Outcome(labels=labels, status="infeasible", message="the table says no")
        figures = {"simulated_tpot_p99": 0.003, "simulated_ttft_p99": 0.03, "simulated_tpot_p99_low": 0.002}
        return Outcome(labels=labels, status="optimal", metrics=figures)
