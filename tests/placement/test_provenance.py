from dataclasses import replace

import pytest

from planner.placement.provenance import assumed_share
from tests.placement.cases import training_plan, training_problem


def test_measured_rates_leave_only_the_overlap_assumed() -> None:
    """On a DGX H100 with fitted efficiencies, only the tail rests on an assumption: how much of it hides."""
    problem, plan = training_problem(), training_plan()
    parts = plan.prediction.breakdown
    expected = parts["gradients and optimizer"] / sum(parts.values())
    assert assumed_share(problem, plan) == pytest.approx(expected)


def test_an_assumed_efficiency_makes_its_parts_assumed() -> None:
    """With an assumed rate of large products nearly everything is assumed, and never more than all."""
    problem, plan = training_problem(), training_plan()
    known = problem.calibration.coefficients
    guess = known["matmul_efficiency"].model_copy(update={"provenance": "assumed"})
    calibration = problem.calibration.model_copy(
        update={"coefficients": {**known, "matmul_efficiency": guess}}
    )
    share = assumed_share(replace(problem, calibration=calibration), plan)
    assert assumed_share(problem, plan) < share <= 1.0
