"""Jobs on a DGX-1: the chosen sets of GPUs against all sets, judged one by one."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from planner.costs import load_calibration
from planner.placement import TrainingPlan, TrainingProblem, check_job, judge_training, make_problem
from planner.solve import Budget, solve_job
from planner.topology import Topology, load_topology
from planner.workload import Degrees, ModelReference, TrainingJob, Transformer
from tests.topology.test_rings import without

MODEL = Transformer(
    name="tiny", layers=4, hidden=2048, ffn=8192, heads=16, kv_heads=16, head_dim=128, vocab=32000
)


def problem(topology: Topology, axis: str, size: int) -> TrainingProblem:
    """Return a small job that is one group of so many GPUs."""
    degrees = Degrees(**{name: [size if name == axis else 1] for name in ("tp", "pp", "dp", "cp")})  # type: ignore[arg-type]
    job = TrainingJob(
        kind="training", name="job", model=ModelReference(dims=MODEL), sequence=1024, global_batch=16,
        precision="fp16", degrees=degrees,
    )  # fmt: skip
    return make_problem(job, MODEL, topology, load_calibration())


def chosen(case: TrainingProblem) -> tuple[frozenset[str], float]:
    """Return the GPUs of the proven best plan, and check it against every set of GPUs."""
    solution = solve_job(case, Budget(seconds=30.0), explain=False)
    plan = solution.plan
    assert isinstance(plan, TrainingPlan)
    assert solution.proven
    assert check_job(case, plan) == []
    least = min(
        judge_training(case, plan.strategy, plan.layers, list(gpus)).step_time
        for gpus in combinations(case.hierarchy.gpus, plan.strategy.num_ranks)
    )
    assert solution.value == pytest.approx(least, rel=1e-9)
    return frozenset(gpu.split("/")[1] for gpu in plan.ranks()), solution.value


@pytest.mark.parametrize("axis", ["dp", "tp"])
def test_the_gpus_of_a_job_are_those_of_exhaustive_enumeration(axis: str) -> None:
    """Jobs of 2, 4 and 8 GPUs get the set that is best of all; two GPUs are a pair with two NVLinks."""
    topology = load_topology("dgx1-v100")
    gpus = {size: chosen(problem(topology, axis, size))[0] for size in (2, 4, 8)}
    assert gpus[2] == {"gpu0", "gpu3"}
    assert gpus[4] == {f"gpu{number}" for number in range(4)}
    assert len(gpus[8]) == 8


def test_with_a_link_down_the_sets_change_as_brute_force_says(repository: Path) -> None:
    """Without the links of the chosen pair, jobs of 2 and 4 GPUs move, and one of 8 gets slower."""
    topology, damaged = load_topology("dgx1-v100"), without(repository, (0, 3))
    for size in (2, 4):
        before, after = chosen(problem(topology, "dp", size)), chosen(problem(damaged, "dp", size))
        assert not {"gpu0", "gpu3"} <= after[0]
        assert after[0] != before[0]
        assert after[1] == pytest.approx(before[1], rel=1e-9)
    assert chosen(problem(damaged, "dp", 8))[1] > chosen(problem(topology, "dp", 8))[1]


def test_the_general_search_finds_nothing_better_than_the_rings_allow() -> None:
    """With all degrees free the plan is legal, proven, and no worse than any job of one group."""
    topology = load_topology("dgx1-v100")
    free = problem(topology, "dp", 8).job.model_copy(update={"degrees": Degrees(cp=[1], virtual=[1])})
    case = make_problem(free, MODEL, topology, load_calibration())
    solution = solve_job(case, Budget(seconds=30.0), explain=False)
    assert solution.proven
    assert check_job(case, solution.plan) == []
    for axis in ("tp", "dp"):
        assert solution.value <= chosen(problem(topology, axis, 8))[1] * (1 + 1e-9)
