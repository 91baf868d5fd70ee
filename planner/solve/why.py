"""Why a plan won: for each decision the best plan that decides it otherwise, and by how much it loses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner import units
from planner.costs.offload import OFFLOAD
from planner.costs.training import RECOMPUTE, SHARDING
from planner.placement import Decision, ServingProblem, Strategy, TrainingProblem, judge_training, prediction
from planner.placement.pools import AGGREGATED, DISAGGREGATED, allowed_pools
from planner.solve.budget import Budget
from planner.solve.pools import PoolSearch
from planner.solve.serving import TOLERANCE, PlacedService, ServingSearch, serving_strategies
from planner.solve.training import PlacedStrategy, TrainingSearch, best_among, cheapest
from planner.solve.why_host import host_decisions

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
    "offload": "kept in host memory",
}
_SERVING = {
    "tp": "tensor parallel",
    "pp": "pipeline stages",
    "dp": "replicas",
    "ep": "expert parallel",
    "adp": "attention data parallel",
    "precision": "data type of weights",
    "expert_precision": "data type of experts",
    "kv_precision": "data type of the cache",
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
    found.extend(_shared_number(search.problem, best))
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


def _shared_number(problem: TrainingProblem, best: PlacedStrategy) -> Iterator[Decision]:
    """Yield what it costs that all stages repeat as many layers as the one that has to repeat most.

    That is what Megatron-LM runs, which has one number per chunk for all stages.
    """
    most = max(best.again, default=0)
    alike = tuple(min(most, layers) for layers in best.layers)
    if not best.again or alike == best.again:
        return
    outcome = judge_training(problem, best.strategy, best.layers, best.devices, alike)
    other = PlacedStrategy(best.strategy, best.layers, best.devices, outcome.step_time, alike)
    yield Decision(
        decision="recomputed layers per stage",
        chosen=f"{min(best.again)} to {most}, as memory asks", alternative=f"{most} on every stage",
        loss=other.seconds / best.seconds - 1.0, reason=_reason(problem, best, other),
    )  # fmt: skip


def _code(strategy: Strategy, name: str) -> int:
    value = getattr(strategy, name)
    if name == "recompute":
        return RECOMPUTE.index(value)
    if name == "offload":
        return OFFLOAD.index(value)
    return SHARDING.index(value) if name == "sharding" else int(value)


def _show(strategy: Strategy, name: str) -> str:
    value = getattr(strategy, name)
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _reason(problem: TrainingProblem, best: PlacedStrategy, other: PlacedStrategy) -> str:
    """Name the part of the step that grows most in the alternative."""
    parts = []
    for plan in (best, other):
        outcome = judge_training(problem, plan.strategy, plan.layers, plan.devices, plan.again)
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
    if best.prefill is not None:
        return [*_pool_decisions(problem, best, best.prefill.strategy, budget), *_transfer_decisions(best)]
    found: list[Decision] = []
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
                loss=search.best.value / best.value - 1.0, reason=_service_reason(problem, best, search.best),
            )
        )  # fmt: skip
    return [*found, *_transfer_decisions(best), *host_decisions(problem, best)]


def _pool_decisions(
    problem: ServingProblem, best: PlacedService, prefill: Strategy, budget: Budget
) -> Iterator[Decision]:
    """Yield, per degree of either pool, the best pair that decides it otherwise, and its loss."""
    everything = serving_strategies(problem)
    for name, title in _SERVING.items():
        for place, (role, own) in enumerate((("prompts", prefill), ("answers", best.strategy))):
            chosen = getattr(own, name)
            others = [strategy for strategy in everything if getattr(strategy, name) != chosen]
            if budget.stopped() or not others:
                continue
            search = PoolSearch(problem, budget.part(min(1.0, max(budget.left, 0.5))))
            search.run(*((others, None) if place == 0 else (None, others)))
            other, decision = search.best, f"{title} for {role}"
            if other is None or other.prefill is None:
                yield Decision(
                    decision=decision, chosen=str(chosen), alternative="any other", loss=None,
                    reason="breaks a limit",
                )  # fmt: skip
                continue
            alternative = (other.prefill.strategy, other.strategy)[place]
            yield Decision(
                decision=decision, chosen=str(chosen), alternative=str(getattr(alternative, name)),
                loss=other.value / best.value - 1.0, reason=_service_reason(problem, best, other),
            )  # fmt: skip


def pool_decision(
    problem: ServingProblem, best: PlacedService, budget: Budget, everything: Sequence[Strategy]
) -> list[Decision]:
    """Return how a service with pools compares with one without, where the job allows both."""
    if len(allowed_pools(problem)) < 2 or problem.job.before or problem.job.after:
        return []
    part = budget.part(min(2.0, max(budget.left, 0.5)))
    if best.prefill is None:
        search: ServingSearch | PoolSearch = PoolSearch(problem, part)
        search.run()
    else:
        search = ServingSearch(problem, part)
        search.run(list(everything))
    other, titles = search.best, (AGGREGATED, DISAGGREGATED)
    chosen, alternative = titles if best.prefill is None else titles[::-1]
    loss = None if other is None else other.value / best.value - 1.0
    return [
        Decision(
            decision="pools", chosen=chosen, alternative=alternative, loss=loss,
            reason="breaks a limit" if other is None else _service_reason(problem, best, other),
        )
    ]  # fmt: skip


def _service_reason(problem: ServingProblem, best: PlacedService, other: PlacedService) -> str:
    """Say what makes the alternative worse: more GPUs, or the part that grows most."""
    needs, own = _gpus(other), _gpus(best)
    if problem.job.objective != "p99_latency" and needs != own:
        return f"needs {needs} GPUs to hold the limits instead of {own}"
    pairs = {
        "prefill": (best.outcome.model.prefill[0], other.outcome.model.prefill[0]),
        "decode step": (best.outcome.model.decode[0], other.outcome.model.decode[0]),
        "CPU part": (max(best.outcome.host.values()), max(other.outcome.host.values())),
        "p99 of the first token": (best.outcome.ttft_p99, other.outcome.ttft_p99),
        "p99 of the latency": (best.outcome.latency_p99, other.outcome.latency_p99),
    }
    grown = {name: float(late) / max(float(early), 1e-12) for name, (early, late) in pairs.items()}
    name = max(grown, key=lambda key: grown[key])
    if grown[name] <= 1.0 + TOLERANCE:
        return "equal in every part"
    return f"{name} {float(pairs[name][1]):.3g} s instead of {float(pairs[name][0]):.3g} s"


def _gpus(placed: PlacedService) -> int:
    """Return the GPUs of a service, those of its pool for prompts included."""
    prefill = placed.prefill
    return placed.strategy.num_ranks + (0 if prefill is None else prefill.strategy.num_ranks)


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
