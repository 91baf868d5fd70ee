"""Small operator graphs, drawn at random, and their exhaustive optima."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

from planner.placement.operators import CPU, Kind, OperatorProblem, broken_rules, value
from planner.workload.operators import Operator, OperatorGraph


def random_problem(seed: int, kind: Kind, num_operators: int = 6) -> OperatorProblem:
    """Return a problem with binding memory, colours, a backward pass at times, and a CPU at times."""
    rng = random.Random(seed)
    backward = kind != "latency" and rng.random() < 0.5
    forward = num_operators // 2 if backward else num_operators
    operators = [
        Operator(
            str(index),
            rng.choice([0.0, 1.0, 2.5, 4.0]),
            rng.choice([0.0, 3.0, 9.0, 20.0]),
            float(rng.choice([0, 1, 2])),
            rng.choice([0.0, 0.3, 1.0, 6.0]),
            colour=rng.choice([None, "a"]) if index in (1, 2) else None,
            on_accelerator=rng.random() < 0.95,
        )
        for index in range(forward)
    ]
    edges = {
        (a, b) for b in range(1, forward) for a in range(b) if rng.random() < 0.4 or (a == b - 1 and b % 2)
    }
    for index in range(num_operators - forward):
        mirrored = replace(
            operators[index], key=f"{index}'", backward=True, colour=rng.choice([f"m{index}", None])
        )
        if mirrored.colour and operators[index].colour is None:
            operators[index] = replace(operators[index], colour=mirrored.colour)
        operators.append(mirrored)
    if backward:
        edges |= {
            (forward + b, forward + a) for a, b in list(edges) if b < forward and forward + b < num_operators
        }
        edges.add((forward - 1, len(operators) - 1))
    graph = OperatorGraph(tuple(operators), tuple(sorted(edges)))
    memory = max(2.0, sum(op.size for op in operators) * rng.choice([0.5, 0.8, 2.0]))
    return OperatorProblem(graph, rng.choice([1, 2]), memory, kind, has_cpu=rng.random() < 0.9)


def brute_force(problem: OperatorProblem) -> float:
    """Return the least value over all legal assignments; infinite when there is none."""
    devices = [*range(problem.num_accelerators), *([CPU] if problem.has_cpu else [])]
    every = itertools.product(devices, repeat=len(problem.graph.operators))
    return min((value(problem, a) for a in every if not broken_rules(problem, a)), default=float("inf"))
