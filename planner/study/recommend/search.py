"""The search for the smallest cluster: every smaller one is solved and simulated, nothing is inferred."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from planner import units
from planner.errors import StudyError
from planner.schema import plain
from planner.study.recommend.answer import Limit, Point, Recommendation, Verdict
from planner.study.recommend.blocks import Block, By, Cluster, clusters_of, mixtures
from planner.study.whatif.document import Options
from planner.study.whatif.outcomes import Outcome
from planner.study.whatif.paths import scale_field
from planner.study.whatif.running import Runner
from planner.study.whatif.scenarios import Bases, Scenario
from planner.topology import load_topology
from planner.workload import ServingJob, Workload, load_workload

FABRIC = "dgx-h100-x8"
"""The topology whose fabric joins nodes that bring none."""
STEP = "step_time"
"""The limit of jobs that are no services."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes
    ----------
    workload, calibration, fabric
        Files or presets; nodes that bring no fabric are joined by that of the topology ``fabric``.
    loads
        Factors of the traffic of every service.
    within
        Limit on the step of every job that is no service, s.
    max_nodes
        Most nodes of a cluster.
    mix
        Whether clusters may be made of several kinds of blocks.
    halvings
        How often the gap between the highest load that a cluster carries and the next one is halved.
    """

    workload: str
    blocks: tuple[Block, ...]
    by: By = "gpus"
    loads: tuple[float, ...] = (1.0,)
    within: float | None = None
    max_nodes: int = 8
    mix: bool = False
    fabric: str = FABRIC
    calibration: str = "default"
    halvings: int = 2
    options: Options = field(default_factory=lambda: Options(hold_limits=True))

    def __post_init__(self) -> None:
        if not self.blocks:
            raise StudyError("name at least one building block")
        names = [block.name for block in self.blocks]
        if len(set(names)) < len(names):
            raise StudyError("two building blocks have the same name")
        if self.by == "cost":
            free = [block.name for block in self.blocks if block.price is None]
            if free:
                raise StudyError(
                    f"the price of {', '.join(free)} is not known; give it with --price BLOCK=USD/h"
                )
        if not self.loads or min(self.loads) <= 0.0:
            raise StudyError("a load is a factor above zero")


def recommend(question: Question, runner: Runner) -> Recommendation:
    """Return the smallest clusters that hold the limits of a workload under each load.

    For every block and load the clusters are solved and simulated from one node upwards until one holds,
    then every mixture that would be smaller still. Nothing is inferred from one cluster, or one load, about
    another.

    Raises
    ------
    PlannerError
        If an input is wrong or the workload states no limits. A cluster that holds nothing is a verdict.
    """
    return _Search(question, runner).run()


class _Search:
    """The clusters looked at so far."""

    def __init__(self, question: Question, runner: Runner) -> None:
        self.question, self.runner = question, runner
        self.judge = _Judge(question)
        self.points: dict[tuple[float, str], Point] = {}

    def run(self) -> Recommendation:
        loads = tuple(sorted(set(self.question.loads)))
        blocks = self.question.blocks
        self._climb([(load, iter(clusters_of(block))) for load in loads for block in blocks])
        if self.question.mix:
            self._climb([(load, self._worthwhile(load)) for load in loads])
        if len(loads) > 1:
            self._carry(loads)
        return self._answer(loads)

    def _answer(self, loads: tuple[float, ...]) -> Recommendation:
        asked = self.question
        points = tuple(self.points.values())
        name, fabric = self.judge.workload.name, self.judge.fabric
        return Recommendation(name, asked.by, asked.blocks, loads, points, asked.mix, fabric)

    def _climb(self, chains: Sequence[tuple[float, Iterator[Cluster]]]) -> None:
        """Look at the next cluster of every chain, again and again, until one of it holds or it ends."""
        left = list(chains)
        while left:
            steps = [(load, chain, next(chain, None)) for load, chain in left]
            live = [(load, chain, cluster) for load, chain, cluster in steps if cluster is not None]
            found = self._look([(load, cluster) for load, _, cluster in live])
            left = [
                (load, chain)
                for (load, chain, _), point in zip(live, found, strict=True)
                if point.verdict != "holds"
            ]

    def _worthwhile(self, load: float) -> Iterator[Cluster]:
        """Yield the mixtures that are smaller than the best cluster of one block, smallest first."""
        asked = self.question
        held = [
            p.cluster.size(asked.by) for p in self.points.values() if (p.load, p.verdict) == (load, "holds")
        ]
        most = min(held, default=(inf,))
        found = mixtures(asked.blocks, asked.max_nodes, asked.by)
        return (cluster for cluster in found if cluster.size(asked.by) < most)

    def _carry(self, loads: tuple[float, ...]) -> None:
        """Find how much load each cluster of one block carries that was looked at under some load."""
        tops = [
            (cluster, list(reversed(loads)))
            for block in self.question.blocks
            for cluster in clusters_of(block)
            if any((load, cluster.name) in self.points for load in loads)
        ]
        while tops:  # from the highest load downwards, until one is carried
            tops = [(cluster, rest) for cluster, rest in tops if rest]
            found = self._look([(rest[0], cluster) for cluster, rest in tops])
            tops = [
                (cluster, rest[1:])
                for (cluster, rest), point in zip(tops, found, strict=True)
                if point.verdict != "holds"
            ]
        for _ in range(self.question.halvings):
            gaps = [
                ((one.carries + one.fails) / 2.0, one.cluster)
                for one in self._answer(loads).capacities()
                if one.carries is not None and one.fails is not None
            ]
            self._look(gaps)

    def _look(self, wanted: Sequence[tuple[float, Cluster]]) -> list[Point]:
        """Return the verdict on clusters, those that are new worked out together."""
        new = [(load, cluster) for load, cluster in wanted if (load, cluster.name) not in self.points]
        outcomes = self.runner.run([self.judge.scenario(load, cluster) for load, cluster in new])
        for (load, cluster), outcome in zip(new, outcomes, strict=True):
            self.points[load, cluster.name] = self.judge.point(load, cluster, outcome)
        return [self.points[load, cluster.name] for load, cluster in wanted]


class _Judge:
    """Makes the scenario of a cluster under a load, and the verdict from its outcome."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.bases = Bases(Path())
        self.workload: Workload = load_workload(self.bases.path("workload", question.workload))
        self.fabric = plain(load_topology(question.fabric).document)
        if "fabric" not in self.fabric:
            raise StudyError(f"topology {question.fabric!r} has no fabric to join nodes with")
        if not any(True for _ in self._limits()):
            raise StudyError(
                f"workload {self.workload.name!r} states no limit to hold; state 'slo' of a service, or the "
                "time of a step with --within"
            )
        if question.loads != (1.0,) and not any(hasattr(one.job, "traffic") for one in self.workload.jobs):
            raise StudyError(f"workload {self.workload.name!r} has no traffic that a load could scale")

    def _limits(self) -> Iterator[tuple[str, str, float]]:
        """Yield job, name and value of every limit."""
        for job in (resolved.job for resolved in self.workload.jobs):
            if isinstance(job, ServingJob):
                for name, limit in job.slo:
                    if limit is not None:
                        yield job.name, name, limit
            elif self.question.within is not None:
                yield job.name, STEP, self.question.within

    def scenario(self, load: float, cluster: Cluster) -> Scenario:
        """Return the scenario in which a cluster carries a load."""
        workload = self.bases.workload(self.question.workload)
        for job in workload["jobs"]:
            if job["kind"] == "serving":
                scale_field(job, "traffic.rate", load)
                job["objective"] = "p99_latency"  # all of the cluster is there to be used
        return Scenario(
            {"cluster": cluster.name, "load": f"{load:g} x"},
            json.dumps(cluster.document(self.fabric)),
            json.dumps(workload),
            str(self.bases.path("workload", self.question.workload).parent),
            str(self.bases.path("calibration", self.question.calibration)),
            self.question.options,
        )

    def point(self, load: float, cluster: Cluster, outcome: Outcome) -> Point:
        """Return what an outcome says of a cluster."""
        limits = tuple(self._seen(outcome))
        verdict, reason = self._verdict(outcome, limits)
        return Point(load, cluster, verdict, outcome.decided, limits, reason)

    def _seen(self, outcome: Outcome) -> Iterator[Limit]:
        found, many = outcome.metrics, len(self.workload.jobs) > 1
        for job, name, limit in self._limits():
            start = f"{job}." if many else ""
            value = found.get(f"{start}simulated_{name}")
            if value is None and name == STEP:
                value = found.get(f"{start}{name}", None if many else found.get("objective"))
            if value is not None:
                widest = (value, value) if name == STEP else (0.0, inf)
                low, high = (
                    found.get(f"{start}simulated_{name}_{end}", far)
                    for end, far in zip(("low", "high"), widest, strict=True)
                )
                yield Limit(job, name, limit, value, low, high)

    def _verdict(self, outcome: Outcome, limits: tuple[Limit, ...]) -> tuple[Verdict, str]:
        if outcome.status == "infeasible":
            return "refused", outcome.message
        if outcome.message or not limits:
            return "open", outcome.message or "it was not simulated"
        broken = [limit for limit in limits if limit.value > limit.limit]
        if not broken:
            return "holds", ""
        said = "; ".join(
            f"{one.name} of {one.job} is {units.show(one.value, 's')}, above {units.show(one.limit, 's')}"
            for one in broken
        )
        alone = len(self.workload.jobs) == 1 and limits[0].name == STEP
        proven = alone and outcome.metrics["bound"] > limits[0].limit
        return ("refused" if proven else "open"), said
