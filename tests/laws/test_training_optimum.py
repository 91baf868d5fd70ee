"""The training solver against brute force, and laws that every optimum obeys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.placement import TrainingProblem
from planner.workload import TrainingJob
from tests.laws.brute_force import best_training
from tests.laws.instances import Box, MachineCase, machine_cases, problem_of, training_jobs
from tests.laws.optimum import RELATIVE, optimum


@given(training_jobs(), machine_cases())
def test_plan_is_legal_and_as_good_as_brute_force(job: TrainingJob, case: MachineCase) -> None:
    """The plan passes the judge, is proven, and equals the best of all plans walked one by one."""
    problem = problem_of(job, case)
    assert isinstance(problem, TrainingProblem)
    assert optimum(job, case) == pytest.approx(best_training(problem), rel=RELATIVE)


@given(training_jobs(), machine_cases())
def test_renaming_changes_nothing(job: TrainingJob, case: MachineCase) -> None:
    """The optimum does not depend on what nodes and GPUs are called."""
    renamed = replace(case, prefix="another", gpu="accelerator")
    assert optimum(job, renamed) == pytest.approx(optimum(job, case), rel=RELATIVE)


@given(training_jobs(), machine_cases())
def test_reordering_nodes_changes_nothing(job: TrainingJob, case: MachineCase) -> None:
    """The optimum does not depend on the order in which nodes are listed."""
    turned = replace(case, boxes=case.boxes[::-1])
    assert optimum(job, turned) == pytest.approx(optimum(job, case), rel=RELATIVE)


@given(training_jobs(), machine_cases(), st.sampled_from([1.2, 4.0]))
def test_more_memory_is_never_worse(job: TrainingJob, case: MachineCase, factor: float) -> None:
    """Larger device memory keeps or improves the optimum."""
    larger = replace(case, memory=case.memory * factor)
    assert optimum(job, larger) <= optimum(job, case) * (1 + RELATIVE)


@given(
    training_jobs(),
    machine_cases(),
    st.sampled_from(["nvlink", "pcie", "port"]),
    st.sampled_from([1.5, 10.0]),
)
def test_a_faster_link_is_never_worse(job: TrainingJob, case: MachineCase, which: str, factor: float) -> None:
    """A higher rate of one kind of link on every node keeps or improves the optimum."""
    faster = tuple(replace(box, **{which: getattr(box, which) * factor}) for box in case.boxes)
    assert optimum(job, replace(case, boxes=faster)) <= optimum(job, case) * (1 + RELATIVE)


@given(training_jobs(), machine_cases())
def test_an_added_node_is_never_worse(job: TrainingJob, case: MachineCase) -> None:
    """One more node like the first keeps or improves the optimum: it may stay idle."""
    more = replace(case, boxes=(*case.boxes, case.boxes[0]))
    assert optimum(job, more) <= optimum(job, case) * (1 + RELATIVE)


@given(training_jobs())
@settings(max_examples=10)
def test_joining_two_islands_is_never_worse(job: TrainingJob) -> None:
    """Two NVLink islands merged into one by more links keep or improve the optimum."""
    apart = MachineCase((Box((2, 2), 300.0, 10.0, 2.0),), 12e9)
    joined = MachineCase((Box((4,), 300.0, 10.0, 2.0),), 12e9)
    assert optimum(job, joined) <= optimum(job, apart) * (1 + RELATIVE)
