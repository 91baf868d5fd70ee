"""Pipeline schedules are complete, in order, and never wait for themselves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs.pipeline import in_flight
from planner.errors import SimulationError
from planner.simulate import Op, pipeline_schedule
from planner.simulate.schedule import Schedule, awaits_input, next_op

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5)).map(
    lambda shape: (shape[0], shape[1], shape[2] * shape[0])
)


def finished(schedule: Schedule, virtual: int) -> bool:
    """Work off a schedule wherever the input is there, and return whether all of it can be done."""
    stages = len(schedule)
    place, arrived = [0] * stages, [set[Op]() for _ in range(stages)]
    moved = True
    while moved:
        moved = False
        for stage, work in enumerate(schedule):
            while place[stage] < len(work):
                op = work[place[stage]]
                if awaits_input(stage, op, stages, virtual) and op not in arrived[stage]:
                    break
                after = next_op(stage, op, stages, virtual)
                if after is not None:
                    arrived[after[0]].add(after[1])
                place[stage] += 1
                moved = True
    return all(count == len(work) for count, work in zip(place, schedule, strict=True))


@given(SHAPES)
def test_every_stage_does_every_pass_once_and_nothing_deadlocks(shape: tuple[int, int, int]) -> None:
    """Each chunk sees each micro-batch forward and then backward, and all work can be finished."""
    stages, virtual, count = shape
    schedule = pipeline_schedule(stages, virtual, count)
    for work in schedule:
        assert Counter(work) == Counter(
            Op(kind, index, chunk)
            for kind in ("forward", "backward")
            for index in range(count)
            for chunk in range(virtual)
        )
        place = {op: index for index, op in enumerate(work)}
        assert all(place[op._replace(kind="forward")] <= place[op] for op in work)
    assert finished(schedule, virtual)


@given(SHAPES)
def test_activations_in_flight_are_those_that_the_memory_model_counts(shape: tuple[int, int, int]) -> None:
    """The most chunks that a stage holds between forward and backward are those of `costs.pipeline`."""
    stages, virtual, count = shape
    if stages == 1 and virtual > 1:
        return  # chunks of a single stage are no pipeline; plans refuse them
    expected = in_flight(stages, virtual, count)
    for stage, work in enumerate(pipeline_schedule(stages, virtual, count)):
        held = most = 0
        for op in work:
            held += 1 if op.kind == "forward" else -1
            most = max(most, held)
        assert held == 0
        assert most == round(expected[stage] * virtual)


def test_one_forward_one_backward_is_the_textbook_one() -> None:
    """Two stages and three micro-batches give F0 F1 B0 F2 B1 B2 and F0 B0 F1 B1 F2 B2."""
    schedule = pipeline_schedule(2, 1, 3)
    assert [[f"{op.kind[0]}{op.micro_batch}" for op in work] for work in schedule] == [
        ["f0", "f1", "b0", "f2", "b1", "b2"],
        ["f0", "b0", "f1", "b1", "f2", "b2"],
    ]


def test_interleaved_passes_groups_through_each_chunk() -> None:
    """Stage 0 of 2 with two chunks runs two micro-batches through chunk 0, then through chunk 1."""
    work = pipeline_schedule(2, 2, 4)[0]
    forwards = [(op.micro_batch, op.chunk) for op in work if op.kind == "forward"]
    backwards = [(op.micro_batch, op.chunk) for op in work if op.kind == "backward"]
    assert forwards == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 0), (2, 1), (3, 1)]
    assert backwards == [(0, 1), (1, 1), (0, 0), (1, 0), (2, 1), (3, 1), (2, 0), (3, 0)]
    assert [op.kind for op in work[:6]] == ["forward"] * 5 + ["backward"]


@pytest.mark.parametrize(("shape", "text"), [((0, 1, 4), "at least one"), ((4, 2, 6), "groups of 4")])
def test_impossible_pipelines_are_refused(shape: tuple[int, int, int], text: str) -> None:
    """Nothing to do, and micro-batches that do not come in groups, are errors that say so."""
    with pytest.raises(SimulationError, match=text):
        pipeline_schedule(*shape)
