"""The serving solver against brute force, and laws that every optimum obeys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.placement import ServingProblem
from planner.workload import Degrees, Lengths, ModelReference, ServingJob, Traffic, Transformer
from tests.laws.brute_force import best_serving
from tests.laws.instances import Box, MachineCase, expert_jobs, machine_cases, problem_of, serving_jobs
from tests.laws.optimum import RELATIVE, optimum


@given(serving_jobs(), machine_cases(), st.sampled_from([1, 2]))
@settings(max_examples=15)
def test_plan_is_legal_and_as_good_as_brute_force(job: ServingJob, case: MachineCase, sockets: int) -> None:
    """The plan passes the judge, is proven, and equals the best of all plans walked one by one."""
    node = MachineCase(case.boxes[:1], 30e9, sockets)
    problem = problem_of(job, node)
    assert isinstance(problem, ServingProblem)
    assert optimum(job, node) == pytest.approx(best_serving(problem), rel=RELATIVE)


@given(expert_jobs(), machine_cases())
@settings(max_examples=8)
def test_copies_of_attention_are_searched_as_by_brute_force(job: ServingJob, case: MachineCase) -> None:
    """With experts, degrees and copies of attention come out as when all plans are walked one by one."""
    node = MachineCase(case.boxes[:1], 3e9)
    problem = problem_of(job, node)
    assert isinstance(problem, ServingProblem)
    assert optimum(job, node) == pytest.approx(best_serving(problem), rel=RELATIVE)


@given(expert_jobs(), machine_cases())
@settings(max_examples=8)
def test_more_ways_to_repeat_attention_are_never_worse(job: ServingJob, case: MachineCase) -> None:
    """The optimum with copies of attention is at most that without."""
    without = job.model_copy(update={"degrees": job.degrees.model_copy(update={"adp": [1]})})
    assert optimum(job, case) <= optimum(without, case) * (1 + RELATIVE)


@given(serving_jobs(), machine_cases())
@settings(max_examples=8)
def test_more_data_types_are_never_worse(job: ServingJob, case: MachineCase) -> None:
    """A choice of data types is at least as good as each of them alone, and as the job's own."""
    free = Degrees.model_validate({**job.degrees.model_dump(), "precision": ["bf16", "fp8"]})
    best = optimum(job.model_copy(update={"degrees": free}), case)
    for own in ("bf16", "fp8"):
        assert best <= optimum(job.model_copy(update={"precision": own}), case) * (1 + RELATIVE)


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


@pytest.mark.parametrize("factor", [2.0, 5.0, 10.0, 100.0])
def test_ports_faster_than_nvlink_are_never_worse(factor: float) -> None:
    """Links inside a node keep their lower latency when the network overtakes them."""
    boxes = (Box((1,), 100.0, 10.0, 20.0), Box((2,), 100.0, 10.0, 20.0))
    faster = tuple(replace(box, port=box.port * factor) for box in boxes)
    traffic = Traffic(rate=5.0, prompt=Lengths(mean=512, cv=0.5), output=Lengths(mean=32, cv=0.5))
    model = Transformer(
        name="tiny", layers=4, hidden=1024, ffn=4096, heads=8, kv_heads=4, head_dim=128, vocab=32000
    )
    job = ServingJob(
        kind="serving", name="job", model=ModelReference(dims=model), traffic=traffic,
        degrees=Degrees(tp=[1, 2], pp=[1, 2], replicas=[1, 2, 3]),
    )  # fmt: skip
    assert optimum(job, MachineCase(faster, 6e9)) <= optimum(job, MachineCase(boxes, 6e9)) * (1 + RELATIVE)
