"""Conflicts and remedies of problems that nothing solves."""

from __future__ import annotations

import numpy as np
import pytest

from planner.errors import InfeasibleError, NoPlanError
from planner.solve import Budget, solve_job
from planner.solve.infeasible import smallest_conflict
from planner.workload import (
    CpuStage,
    Degrees,
    Lengths,
    ModelReference,
    ServingJob,
    Slo,
    Traffic,
    TrainingJob,
    Transformer,
)
from tests.laws.instances import Box, MachineCase, problem_of

TINY = Transformer(
    name="tiny", layers=4, hidden=1024, ffn=4096, heads=8, kv_heads=4, head_dim=128, vocab=32000
)
BIG = Transformer(
    name="big", layers=64, hidden=8192, ffn=28672, heads=64, kv_heads=8, head_dim=128, vocab=32000
)
CASE = MachineCase((Box((4,), 300.0, 40.0, 20.0),), 30e9)


def training(model: Transformer, **more: object) -> TrainingJob:
    """Return a training job of a model."""
    given = {
        "kind": "training",
        "name": "job",
        "model": ModelReference(dims=model),
        "sequence": 2048,
        "global_batch": 8,
    }
    return TrainingJob.model_validate({**given, **more})


def serving(**more: object) -> ServingJob:
    """Return a serving job of a small model."""
    traffic = Traffic(rate=5.0, prompt=Lengths(mean=512), output=Lengths(mean=64))
    given = {"kind": "serving", "name": "job", "model": ModelReference(dims=TINY), "traffic": traffic}
    return ServingJob.model_validate({**given, **more})


def test_conflict_is_irreducible() -> None:
    """Two constraints that exclude each other are named; one that all rows hold is not."""
    rows = {
        "a": np.asarray([True, False]),
        "b": np.asarray([False, True]),
        "c": np.asarray([True, True]),
    }
    assert smallest_conflict(rows) == ["a", "b"]


def test_model_that_fits_nowhere_names_memory_and_a_remedy() -> None:
    """A 64-layer model on four small GPUs: memory and GPUs are in conflict; more GPUs would do."""
    with pytest.raises(InfeasibleError, match="nearest change") as caught:
        solve_job(problem_of(training(BIG), CASE), Budget(seconds=20.0))
    assert any("memory" in item for item in caught.value.conflicts)
    assert "GPUs" in caught.value.remedy
    assert caught.value.exit_code == 3


def test_limit_that_nothing_meets_names_the_limit_and_the_value_that_would() -> None:
    """A first token within a microsecond is impossible; the message says what is possible."""
    job = serving(slo=Slo(ttft_p99=1e-6))
    with pytest.raises(InfeasibleError) as caught:
        solve_job(problem_of(job, CASE), Budget(seconds=20.0))
    assert any("ttft_p99" in item for item in caught.value.conflicts)
    assert "ttft_p99 of at least" in caught.value.remedy


def test_the_remedy_of_a_limit_is_enough() -> None:
    """With the limit that the message names, a plan exists."""
    hopeless = serving(slo=Slo(tpot_p99=1e-6))
    with pytest.raises(InfeasibleError) as caught:
        solve_job(problem_of(hopeless, CASE), Budget(seconds=20.0))
    words = caught.value.remedy.split("tpot_p99 of at least ")[1].split(",")[0].split()
    scale = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[words[1]]
    eased = serving(slo=Slo(tpot_p99=float(words[0]) * scale * 1.01))
    assert solve_job(problem_of(eased, CASE), Budget(seconds=20.0)).proven


def test_cpu_stages_beyond_the_cores_are_named() -> None:
    """A stage that needs more cores than the host has is reported as such."""
    job = serving(before=[CpuStage(name="heavy", work=10.0)])
    with pytest.raises(InfeasibleError) as caught:
        solve_job(problem_of(job, CASE), Budget(seconds=20.0))
    assert any("core" in item for item in caught.value.conflicts)


def test_no_legal_degrees_is_infeasible() -> None:
    """Degrees that divide nothing leave no strategy."""
    with pytest.raises(InfeasibleError, match="no combination of degrees"):
        solve_job(problem_of(training(TINY, degrees=Degrees(tp=[3])), CASE), Budget(seconds=20.0))


def test_out_of_time_is_not_infeasible() -> None:
    """A budget that is over before anything was placed ends with its own error and exit code."""
    problem = problem_of(training(TINY), CASE)
    with pytest.raises(NoPlanError) as caught:
        solve_job(problem, Budget(seconds=20.0, stopped=lambda: True))
    assert caught.value.exit_code == 4
