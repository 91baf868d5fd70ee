"""Why a plan won: for each decision the best plan that decides it otherwise, and by how much it loses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner import units
from planner.costs.training import RECOMPUTE, SHARDING
from planner.placement import Decision, ServingProblem, Strategy, TrainingProblem, judge_training, prediction
from planner.solve.budget import Budget
from planner.solve.serving import PlacedService, ServingSearch
from planner.solve.training import PlacedStrategy, TrainingSearch, best_among, cheapest

_TRAINING = {
    "tp": "tensor parallel",
    "pp": "pipeline stages",
    "dp": "data parallel",
    "cp": "context parallel",
    "ep": "expert parallel",
    "virtual": "virtual stages",
    "micro_batch": "micro-batch",
    "recompute": "recompute",
    "sharding": "sharding",
    "sequence_parallel": "sequence parallel",
}
_SERVING = {
    "tp": "tensor parallel",
    "pp": "pipeline stages",
    "dp": "replicas",
    "ep": "expert parallel",
    "adp": "attention data parallel",
}
MOST_ALTERNATIVES = 80
"""Alternatives of each decision that are placed, those of lowest bound."""
MOST_SECONDS = 0.5


def training_decisions(search: TrainingSearch, best: PlacedStrategy, budget: Budget) -> list[Decision]:
    """Return, per degree and switch, the best plan with another value, from what the search has priced."""
    found: list[Decision] = []
    for name, title in _TRAINING.items():
        if budget.stopped() or not search.priced:
            break
        found.extend(_training_decision(search, best, name, title))
    return sorted(found, key=lambda item: float("inf") if item.loss is None else item.loss)


def _training_decision(
    search: TrainingSearch, best: PlacedStrategy, name: str, title: str
) -> Iterator[Decision]:
    chosen = _code(best.strategy, name)
    batch = cheapest(search.priced, lambda many: getattr(many, name) != chosen, MOST_ALTERNATIVES)
    if not len(batch.bounds):
        return
    other = best_among(search.problem, batch, search.budget.part(MOST_SECONDS))
    if other is None:
        text = "none of the most promising alternatives could be placed"
        yield Decision(
            decision=title, chosen=_show(best.strategy, name), alternative="any other", loss=None, reason=text
        )
        return
    yield Decision(
        decision=title, chosen=_show(best.strategy, name), alternative=_show(other.strategy, name),
        loss=other.seconds / best.seconds - 1.0, reason=_reason(search.problem, best, other),
    )  # fmt: skip


def _code(strategy: Strategy, name: str) -> int:
    value = getattr(strategy, name)
    if name == "recompute":
        return RECOMPUTE.index(value)
    return SHARDING.index(value) if name == "sharding" else int(value)


def _show(strategy: Strategy, name: str) -> str:
    value = getattr(strategy, name)
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _reason(problem: TrainingProblem, best: PlacedStrategy, other: PlacedStrategy) -> str:
    """Name the part of the step that grows most in the alternative."""
    parts = []
    for plan in (best, other):
        outcome = judge_training(problem, plan.strategy, plan.layers, plan.devices)
        parts.append(prediction(problem, plan.strategy, outcome).breakdown)
    names = {*parts[0], *parts[1]}
    grown = {name: parts[1].get(name, 0.0) - parts[0].get(name, 0.0) for name in names}
    worst = max(sorted(grown), key=lambda name: grown[name])
    if grown[worst] <= 0.0:
        return "equal in every part"
    return f"{worst} takes {grown[worst]:.3g} s more per step"


def serving_decisions(
    problem: ServingProblem, best: PlacedService, budget: Budget, everything: Sequence[Strategy]
) -> list[Decision]:
    """Return, per degree and per transfer, the best alternative among all strategies and its loss."""
    found = []
    for name, title in _SERVING.items():
        if budget.stopped():
            break
        chosen = getattr(best.strategy, name)
        others = [strategy for strategy in everything if getattr(strategy, name) != chosen]
        if not others:
            continue
        search = ServingSearch(problem, budget.part(min(2.0, max(budget.left, 0.5))))
        search.run(others)
        if search.best is None:
            found.append(
                Decision(
                    decision=title,
                    chosen=str(chosen),
                    alternative="any other",
                    loss=None,
                    reason="breaks a limit",
                )
            )
            continue
        found.append(
            Decision(
                decision=title, chosen=str(chosen), alternative=str(getattr(search.best.strategy, name)),
                loss=search.best.value / best.value - 1.0, reason=_service_reason(best, search.best),
            )
        )  # fmt: skip
    return [*found, *_transfer_decisions(best)]


def _service_reason(best: PlacedService, other: PlacedService) -> str:
    pairs = {
        "prefill": (best.outcome.model.prefill[0], other.outcome.model.prefill[0]),
        "decode step": (best.outcome.model.decode[0], other.outcome.model.decode[0]),
        "CPU part": (max(best.outcome.host.values()), max(other.outcome.host.values())),
        "p99 of the first token": (best.outcome.ttft_p99, other.outcome.ttft_p99),
    }
    name = max(pairs, key=lambda key: float(pairs[key][1]) / max(float(pairs[key][0]), 1e-12))
    return f"{name} {float(pairs[name][1]):.3g} s instead of {float(pairs[name][0]):.3g} s"


def _transfer_decisions(best: PlacedService) -> list[Decision]:
    found = {}
    for transfer in best.replicas[0].transfers:
        if transfer.runner_up is None or transfer.runner_up_seconds is None:
            continue
        found[transfer.name] = Decision(
            decision=f"memory mode, {transfer.name}", chosen=transfer.mode, alternative=transfer.runner_up,
            loss=(transfer.runner_up_seconds - transfer.seconds) / best.value,
            reason=f"{units.show(transfer.runner_up_seconds, 's')} instead of "
            f"{units.show(transfer.seconds, 's')} for {units.show(transfer.size, 'bytes')}",
        )  # fmt: skip
    return list(found.values())
