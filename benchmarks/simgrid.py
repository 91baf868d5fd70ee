"""CPU time and finish times of SimGrid on a flow trace, where its headers and a C++ compiler are installed.

On Debian: ``apt-get install libsimgrid-dev g++``. One actor starts all flows, or one actor per flow where
flows depend on others; latencies are paid as a sleep before the bytes flow, for its CM02 model would weight
shares by them; times are microseconds inside, so that its absolute precisions do not lump events together.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from planner.errors import PlannerError
from planner.simulate import FlowTrace

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOURCE = Path(__file__).with_name("simgrid_replay.cpp")
SETTINGS = (
    "network/model:CM02", "network/TCP-gamma:0", "network/bandwidth-factor:1", "network/latency-factor:1",
    "network/weight-S:0", "network/crosstraffic:0", "network/optim:Lazy", "surf/precision:1e-9",
    "maxmin/precision:1e-7",
)  # fmt: skip
MICRO = 1e-6


class Outcome(NamedTuple):
    """CPU time of the simulation alone, s, and when each flow finished, s."""

    cpu: float
    finish: NDArray[np.float64]


def is_installed() -> bool:
    """Return whether the comparison can be built here."""
    return shutil.which("g++") is not None and Path("/usr/include/simgrid/s4u.hpp").is_file()


def build(folder: Path) -> Path:
    """Compile the replay program into a folder."""
    program = folder / "simgrid_replay"
    command = ["g++", "-O3", "-std=c++17", str(SOURCE), "-o", str(program), "-lsimgrid"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlannerError(f"the SimGrid replay does not compile: {done.stderr.strip()[:400]}")
    return program


def replay(program: Path, trace: FlowTrace) -> Outcome:
    """Replay a trace, whose sizes have to be whole bytes."""
    command = [str(program), "--log=root.thres:error", *(f"--cfg={setting}" for setting in SETTINGS)]
    done = subprocess.run(command, input=_described(trace), capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlannerError(f"SimGrid fails on {trace.name}: {done.stderr.strip()[:400]}")
    cpu, *finish = (float(line) for line in done.stdout.split())
    return Outcome(cpu, np.array(finish) * MICRO)


def _described(trace: FlowTrace) -> str:
    lines = [
        str(len(trace.links)),
        *(f"{link.rate * MICRO:.17g}" for link in trace.links),
        str(len(trace.flows)),
    ]
    for flow in trace.flows:
        wait = flow.delay + sum(trace.links[link].latency for link in flow.path)
        before = sorted(set(flow.after))
        numbers = (len(flow.path), *flow.path, len(before), *before)
        lists = " ".join(str(number) for number in numbers)
        lines.append(f"{flow.start / MICRO:.17g} {wait / MICRO:.17g} {int(flow.size)} {lists}")
    return "\n".join(lines) + "\n"
