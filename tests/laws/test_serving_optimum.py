"""The serving solver against brute force, and laws that every optimum obeys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.placement import ServingProblem
from planner.workload import ServingJob
from tests.laws.brute_force import best_serving
from tests.laws.instances import MachineCase, machine_cases, problem_of, serving_jobs
from tests.laws.optimum import RELATIVE, optimum


@given(serving_jobs(), machine_cases(), st.sampled_from([1, 2]))
@settings(max_examples=15)
def test_plan_is_legal_and_as_good_as_brute_force(job: ServingJob, case: MachineCase, sockets: int) -> None:
    """The plan passes the judge, is proven, and equals the best of all plans walked one by one."""
    node = MachineCase(case.boxes[:1], 30e9, sockets)
    problem = problem_of(job, node)
    assert isinstance(problem, ServingProblem)
    assert optimum(job, node) == pytest.approx(best_serving(problem), rel=RELATIVE)


@given(serving_jobs(), machine_cases())
def test_renaming_changes_nothing(job: ServingJob, case: MachineCase) -> None:
    """The optimum does not depend on what nodes and GPUs are called."""
    renamed = replace(case, prefix="another", gpu="accelerator")
    assert optimum(job, renamed) == pytest.approx(optimum(job, case), rel=RELATIVE)


@given(serving_jobs(), machine_cases())
def test_reordering_nodes_changes_nothing(job: ServingJob, case: MachineCase) -> None:
    """The optimum does not depend on the order in which nodes are listed."""
    turned = replace(case, boxes=case.boxes[::-1])
    assert optimum(job, turned) == pytest.approx(optimum(job, case), rel=RELATIVE)


@given(serving_jobs(), machine_cases(), st.sampled_from([1.2, 4.0]))
def test_more_memory_is_never_worse(job: ServingJob, case: MachineCase, factor: float) -> None:
    """Larger device memory keeps or improves the optimum."""
    larger = replace(case, memory=case.memory * factor)
    assert optimum(job, larger) <= optimum(job, case) * (1 + RELATIVE)


@given(
    serving_jobs(), machine_cases(), st.sampled_from(["nvlink", "pcie", "port"]), st.sampled_from([1.5, 10.0])
)
def test_a_faster_link_is_never_worse(job: ServingJob, case: MachineCase, which: str, factor: float) -> None:
    """A higher rate of one kind of link on every node keeps or improves the optimum."""
    faster = tuple(replace(box, **{which: getattr(box, which) * factor}) for box in case.boxes)
    assert optimum(job, replace(case, boxes=faster)) <= optimum(job, case) * (1 + RELATIVE)
