"""A study of 200 scenarios on one and on two processes: ``python -m benchmarks.whatif_speed [--take N]``.

Each run starts with an empty cache; the outcomes of all runs have to be equal. Wall time counts only on a
quiet machine, so the load is told beside it; the speed-up by CPU time compares the busiest processes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from planner import __version__
from planner.study.whatif import Outcome, Runner, Scenario, load_whatif, make_scenarios
from planner.study.whatif.running import Execute, Task, local

STUDY = Path(__file__).with_name("whatif_serving.yaml")
LEAST_SPEEDUP = 1.7


@dataclass(frozen=True)
class Row:
    """One run of the study.

    Attributes
    ----------
    cpu_seconds
        Of all tasks, measured where they run.
    busiest_seconds
        Of the busiest process: what the tasks would have taken on a quiet machine.
    serial_seconds
        CPU time beside the tasks, which no further process shares.
    load
        Processes that wanted to run in the minute before, as the system counts them.
    """

    processes: int
    scenarios: int
    solved: int
    simulated: int
    wall_seconds: float
    cpu_seconds: float
    busiest_seconds: float
    serial_seconds: float
    load: float


def timed(function: Callable[..., str], arguments: tuple[Any, ...]) -> str:
    """Run a task; return the number of its process and its CPU time, s, before its result."""
    before = time.process_time()
    text = function(*arguments)
    return f"{os.getpid()} {time.process_time() - before}\n{text}"


class Stopwatch:
    """Runs tasks as another executor does, and adds up their CPU time by process.

    Attributes
    ----------
    busiest
        CPU time of the busiest process, summed over phases, each of which has processes of its own.
    """

    def __init__(self, execute: Execute) -> None:
        self.execute, self.cpu, self.busiest = execute, 0.0, 0.0

    def __call__(self, tasks: Sequence[Task]) -> Iterator[tuple[int, str]]:
        """Yield the results as they come."""
        spent: dict[str, float] = {}
        for number, text in self.execute([(timed, task) for task in tasks]):
            head, _, result = text.partition("\n")
            process, seconds = head.split()
            spent[process] = spent.get(process, 0.0) + float(seconds)
            yield number, result
        self.cpu += sum(spent.values())
        self.busiest += max(spent.values(), default=0.0)


def run(scenarios: Sequence[Scenario], processes: int) -> tuple[Row, list[Outcome]]:
    """Run scenarios with an empty cache."""
    load, watch = os.getloadavg()[0], Stopwatch(local(processes))
    started, before = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder), watch)
        outcomes = runner.run(scenarios)
    counts, wall, serial = runner.counts, time.monotonic() - started, time.process_time() - before
    row = Row(
        processes,
        len(scenarios),
        counts.solved,
        counts.simulated,
        wall,
        watch.cpu,
        watch.busiest,
        serial,
        load,
    )
    return row, outcomes


def main() -> None:
    """Run the study on one and on two processes and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--take", type=int, default=200, help="scenarios, evenly spread over the 200")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    every = make_scenarios(load_whatif(STUDY), STUDY.parent)
    scenarios = [every[index * len(every) // options.take] for index in range(options.take)]
    (one, alone), (two, both) = run(scenarios, 1), run(scenarios, 2)
    for row in (one, two):
        print(
            f"{row.processes} processes: {row.scenarios} scenarios, {row.wall_seconds:.1f} s, "
            f"{row.cpu_seconds:.1f} CPU s in tasks, {row.serial_seconds:.1f} beside them, load {row.load:.1f}"
        )
    speedup, same = one.wall_seconds / two.wall_seconds, alone == both
    quiet = [row.serial_seconds + row.busiest_seconds for row in (one, two)]
    allowed = quiet[0] / quiet[1]
    said = "are equal" if same else "DIFFER"
    print(f"{speedup:.2f} times as fast; {allowed:.2f} by CPU time alone; outcomes {said}")
    summary = {
        "speedup": speedup,
        "speedup_by_cpu": allowed,
        "equal": same,
        "within": same and speedup >= LEAST_SPEEDUP,
    }
    if options.json:
        rows = [asdict(row) for row in (one, two)]
        found = {"benchmark": "whatif_speed", "version": __version__, "rows": rows, "summary": summary}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
