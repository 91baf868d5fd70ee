"""Hand-made simulations for the tests of the reports."""

from __future__ import annotations

import random
from typing import Literal

from planner.placement.plan import Plan
from planner.simulate.result import JobSimulation, LinkUse, Percentiles, SimulationResult, TimelineSpan

Category = Literal["cpu", "copy", "prefill", "decode"]


def training_simulation(plan: Plan, *, stages: int = 4, micro: int = 16, links: int = 12) -> SimulationResult:
    """Return a simulation of one 1F1B step."""
    job = JobSimulation(
        name=plan.jobs[0].name,
        kind="training",
        step_time=12.1,
        critical_path=11.2,
        bubble=0.161,
        throughput=43300.0,
        utilisation={f"stage {s}": 0.84 - 0.01 * s for s in range(stages)},
        timeline=pipeline_spans(stages, micro),
    )
    return SimulationResult(
        plan=plan.name,
        plan_digest="sha256:" + "ef" * 32,
        seed=0,
        horizon=12.1,
        jobs=[job],
        links=link_uses(plan, links, 12.1),
    )


def pipeline_spans(stages: int, micro: int) -> list[TimelineSpan]:
    """Return the spans of a 1F1B schedule: forward takes 0.15 s, backward 0.3 s."""
    spans: list[TimelineSpan] = []
    done: dict[tuple[str, int, int], float] = {}
    orders = [_one_f_one_b(stage, stages, micro) for stage in range(stages)]
    at = [0.0] * stages
    place = [0] * stages
    while any(place[s] < len(orders[s]) for s in range(stages)):
        for s in range(stages):
            while place[s] < len(orders[s]):
                kind, m = orders[s][place[s]]
                before = (
                    ("F", m, s - 1)
                    if kind == "F" and s > 0
                    else ("B", m, s + 1)
                    if kind == "B" and s < stages - 1
                    else ("F", m, s)
                    if kind == "B"
                    else None
                )
                if before is not None and before not in done:
                    break
                start = max(at[s], done.get(before, 0.0) + 0.01 if before else 0.0)
                end = start + (0.15 if kind == "F" else 0.3)
                done[kind, m, s], at[s] = end, end
                spans.append(
                    TimelineSpan(
                        track=f"stage {s}",
                        name=f"{kind}{m}",
                        category="forward" if kind == "F" else "backward",
                        start=start,
                        end=end,
                    )
                )
                place[s] += 1
    for s in range(stages):
        spans.append(
            TimelineSpan(
                track=f"stage {s}",
                name="reduce gradients",
                category="communication",
                start=at[s] - 0.2,
                end=at[s] + 0.3,
            )
        )
        spans.append(
            TimelineSpan(
                track=f"stage {s}", name="optimizer", category="optimizer", start=at[s] + 0.3, end=at[s] + 0.5
            )
        )
    return spans


def _one_f_one_b(stage: int, stages: int, micro: int) -> list[tuple[str, int]]:
    warm = min(stages - stage - 1, micro)
    order = [("F", m) for m in range(warm)]
    for m in range(micro - warm):
        order += [("F", warm + m), ("B", m)]
    return order + [("B", m) for m in range(micro - warm, micro)]


def link_uses(plan: Plan, count: int, horizon: float) -> list[LinkUse]:
    """Return simulated use of the first links of a plan."""
    draw = random.Random(0)
    return [
        LinkUse(
            source=item.source,
            target=item.target,
            kind=item.kind,
            rate=item.rate,
            carried=item.load * horizon,
            mean=item.utilisation,
            peak=min(1.0, item.utilisation * 1.5),
            saturated=max(0.0, item.utilisation - 0.6),
            waiting=item.utilisation * 0.1,
            series=[
                (horizon * i / 40, min(1.0, item.utilisation * draw.uniform(0.2, 1.5))) for i in range(40)
            ],
        )
        for item in sorted(plan.links, key=lambda each: -each.utilisation)[:count]
    ]


def serving_simulation(plan: Plan, *, requests: int = 4000, spans: int = 6000) -> SimulationResult:
    """Return a simulation of a served model with many spans."""
    draw = random.Random(1)
    samples = sorted(1.2 + draw.gammavariate(4.0, 0.45) for _ in range(requests))
    timeline = list(_serving_spans(draw, spans))
    job = JobSimulation(
        name=plan.jobs[0].name,
        kind="serving",
        latency={
            "latency": percentiles(samples),
            "ttft": percentiles([s / 30 for s in samples]),
            "tpot": percentiles([s / 220 for s in samples]),
        },
        split={"queue": 0.31, "batch": 0.02, "transfer": 0.004, "compute": 2.6, "cpu": 0.012},
        throughput=8650.0,
        latency_cdf=[(samples[i], (i + 1) / requests) for i in range(0, requests, 10)],
        slo_met=True,
        utilisation={"gpu": 0.6, "cpu": 0.2, "copy": 0.01},
        timeline=timeline,
    )
    return SimulationResult(
        plan=plan.name,
        plan_digest="sha256:" + "ef" * 32,
        seed=0,
        horizon=120.0,
        jobs=[job],
        links=link_uses(plan, 12, 120.0),
    )


def percentiles(samples: list[float]) -> Percentiles:
    """Return the percentiles of a sorted sample with made-up intervals."""
    at = {p: samples[int(p * (len(samples) - 1))] for p in (0.5, 0.95, 0.99)}
    return Percentiles(
        count=len(samples),
        mean=sum(samples) / len(samples),
        p50=at[0.5],
        p95=at[0.95],
        p99=at[0.99],
        p50_interval=(at[0.5] * 0.98, at[0.5] * 1.02),
        p95_interval=(at[0.95] * 0.96, at[0.95] * 1.05),
        p99_interval=(at[0.99] * 0.93, at[0.99] * 1.09),
    )


def _serving_spans(draw: random.Random, count: int) -> list[TimelineSpan]:
    spans: list[TimelineSpan] = []
    clock = dict.fromkeys(
        ("chat-0 GPU", "chat-0 copy", "chat-0 CPU", "chat-1 GPU", "chat-1 copy", "chat-1 CPU"), 0.0
    )
    for index in range(count):
        track = draw.choice(list(clock))
        start = clock[track] + draw.expovariate(20.0)
        length = draw.uniform(0.002, 0.09)
        category: Category = draw.choice(["prefill", "decode", "decode"])
        category = "cpu" if "CPU" in track else "copy" if "copy" in track else category
        clock[track] = start + length
        spans.append(
            TimelineSpan(
                track=track, name=f"{category} {index}", category=category, start=start, end=start + length
            )
        )
    return spans
