"""The cheapest service that holds its limits, by the prices of the machines."""

from __future__ import annotations

import pytest

from planner.errors import WorkloadError
from planner.solve import Budget
from planner.study import Documents, Study, solve
from planner.study.pareto import with_prices
from tests.study.clusters import box, documents, topology

MACHINES = {"slow": "a100-sxm-80", "fast": "h100-sxm-80"}


def service(objective: str, *names: str, tpot: str = "30 ms") -> Documents:
    """Return a service on one node of two GPUs of each named machine."""
    job = (
        f"- {{kind: serving, name: chat, model: llama3-8b, objective: {objective}, "
        f"slo: {{tpot_p99: {tpot}}}, "
        "degrees: {pp: [1]}, traffic: {rate: 4 req/s, prompt: {mean: 300}, output: {mean: 100}}}"
    )
    nodes = ", ".join(f"{{name: {name}-0, machine: {name}}}" for name in names)
    return documents(topology(*(box(name, MACHINES[name]) for name in names), nodes=f"[{nodes}]"), job)


def solved(prices: dict[str, float], tpot: str = "30 ms") -> Study:
    """Return the study of the cheapest service where machines have prices, USD/h."""
    return solve(with_prices(service("cost", *prices, tpot=tpot), prices), Budget(20.0))


def test_on_one_kind_of_machine_the_cheapest_plan_has_the_fewest_gpus() -> None:
    """Each GPU costs half of its node of two; the plan says so in USD/h, with proof."""
    plan = solved({"fast": 8.0}).plan
    fewest = solve(service("gpus", "fast"), Budget(20.0)).plan
    assert plan.status == "optimal"
    assert (plan.objective.name, plan.objective.unit) == ("cost", "USD/h")
    assert plan.objective.value == pytest.approx(4.0 * fewest.objective.value)
    assert len(plan.jobs[0].gpus()) == len(fewest.jobs[0].gpus())


@pytest.mark.parametrize(("slow", "fast"), [(2.0, 8.0), (8.0, 2.0)])
def test_of_two_kinds_the_cheaper_is_taken(slow: float, fast: float) -> None:
    """The optimum over both is the lower of the optima on each, and runs there."""
    both = solved({"slow": slow, "fast": fast}).plan
    alone = {name: solved({name: price}).plan for name, price in (("slow", slow), ("fast", fast))}
    best = min(alone, key=lambda name: alone[name].objective.value)
    assert both.objective.value == pytest.approx(alone[best].objective.value)
    assert {gpu.split("-")[0] for gpu in both.jobs[0].gpus()} == {best}


def test_a_tighter_limit_never_costs_less() -> None:
    """Least prices rise as the limit of the time per token falls."""
    prices = {"slow": 2.0, "fast": 8.0}
    loose, tight = (solved(prices, tpot).plan.objective.value for tpot in ("30 ms", "7 ms"))
    assert loose <= tight


def test_a_machine_without_a_price_is_named() -> None:
    """The message says which machine lacks a price, and how to state one."""
    with pytest.raises(WorkloadError, match="price of machine 'fast'"):
        solve(service("cost", "fast"), Budget(20.0))
