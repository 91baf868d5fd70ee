"""Run the checks of a plan and put what was measured beside what was predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planner.calibrate.run.backend import Backend
from planner.calibrate.run.catalogue import fresh
from planner.calibrate.run.items import Bench
from planner.calibrate.run.load import HostLoad
from planner.calibrate.run.pace import PACE
from planner.calibrate.run.runner import Rules, measure
from planner.calibrate.run.team import Team, open_team
from planner.calibrate.samples import Sampled, Samples
from planner.calibrate.verification import TOLERANCE, Unverified, Verification, Verified
from planner.calibrate.verify_jobs import serving_checks, training_checks
from planner.calibrate.verify_plan import Check, Checks
from planner.errors import CalibrationError
from planner.placement import Plan, ServingPlan, TrainingPlan
from planner.placement.mixed import AnyProblem, MixedTrainingProblem
from planner.placement.problem import ServingProblem, TrainingProblem
from planner.topology import Topology

BUSY = 0.2
"""Share of the cores' time that other programs may use before it is said."""
NOTABLE = 1.1
"""Change of the host's pace from which it is said."""
MOST_CORE_RANKS = 4
"""Most processes on a host without GPUs: each wants a core of its own."""


@dataclass
class VerifyRules:
    """How a plan is verified.

    Attributes
    ----------
    processes
        Ranks to use; as many as the plan wants and the machine has when absent.
    """

    run: Rules
    tolerance: float = TOLERANCE
    processes: int | None = None
    seed: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """A verification and the samples that it rests on."""

    verification: Verification
    samples: Samples


def verify_plan(
    plan: Plan, problems: Mapping[str, AnyProblem], topology: Topology, calibration: str, backend: Backend,
    rules: VerifyRules,
) -> Result:  # fmt: skip
    """Measure what a plan predicts.

    Parameters
    ----------
    calibration
        Name of the calibration that the plan was made with.

    Raises
    ------
    CalibrationError
        If no job of the plan can be run on the device at hand.
    """
    world = rules.processes or ranks_for(plan, backend)
    found, load = checks_of(plan, problems, backend, world), HostLoad()
    opened: list[Team] = []

    def team() -> Team:
        if not opened:
            opened.append(open_team(backend, world))
        return opened[0]

    order = sorted(found.checks, key=lambda check: not check.item.long)  # what takes long gets its turn
    try:
        samples = measure(
            [check.item for check in order], Bench(backend, team), fresh(backend, rules.seed), rules.run
        )
    finally:
        for one in opened:
            one.close()
    measured = {one.item: one for one in samples.items}
    who, warnings = backend.identity(), list(rules.warnings)
    pace = _pace_of(problems, who.host)
    rows = [
        _row(check, measured[check.item.name], pace) for check in found.checks if check.item.name in measured
    ]
    missed = [Unverified(item=one.item, reason=one.reason) for one in samples.skipped]
    slower = samples.pace / pace if pace and samples.pulses else 1.0
    if not 1.0 / NOTABLE < slower < NOTABLE:
        warnings.append(
            f"this host took {slower:.2f} times what it took for the same work when it was calibrated; "
            "errors are at the calibration's pace"
        )
    busy = load.others()
    if backend.kind == "cpu" and busy > BUSY:
        warnings.append(
            f"other programs used {busy:.0%} of the host's cores meanwhile; their turns are taken off "
            "where the kernel tells them, what they do to caches is not"
        )
    document = Verification(
        name=plan.name, plan=plan.content_digest, topology=topology.digest, calibration=calibration,
        device=who.device, product=who.product, host=who.host, driver=who.driver, date=samples.date,
        versions=who.versions, processes=world, seconds=samples.seconds, tolerance=rules.tolerance,
        rows=rows, unverified=[*missed, *found.unverified], warnings=warnings,
    )  # fmt: skip
    return Result(document, samples)


def ranks_for(plan: Plan, backend: Backend) -> int:
    """Return how many processes to use: one per stage, and per tensor part, as far as there are devices."""
    wanted = max(
        (
            max(job.strategy.pp, job.strategy.tp)
            for job in plan.jobs
            if isinstance(job, TrainingPlan | ServingPlan)
        ),
        default=1,
    )
    there = MOST_CORE_RANKS if backend.kind == "cpu" else int(backend.torch.cuda.device_count())
    return max(1, min(wanted, there))


def checks_of(plan: Plan, problems: Mapping[str, AnyProblem], backend: Backend, world: int) -> Checks:
    """Return the checks of all jobs; a job that cannot be run is noted unless it is the only one.

    Raises
    ------
    CalibrationError
        If none can be run.
    """
    found, refused = Checks(), []
    for job in plan.jobs:
        problem = problems[job.name]
        try:
            one = _job_checks(problem, job, backend, world)
        except CalibrationError as error:
            refused.append(error)
            found.miss(f"job {job.name}", str(error))
            continue
        found.checks += _distinct(found.checks, one.checks)
        found.unverified += one.unverified
    if refused and not found.checks:
        raise refused[0]
    return found


def _job_checks(problem: AnyProblem, job: object, backend: Backend, world: int) -> Checks:
    if isinstance(problem, ServingProblem) and isinstance(job, ServingPlan):
        return serving_checks(problem, job, backend, world)
    if isinstance(problem, TrainingProblem) and isinstance(job, TrainingPlan):
        return training_checks(problem, job, backend, world)
    if isinstance(problem, MixedTrainingProblem):
        raise CalibrationError(f"job {problem.job.name!r} is on GPUs of several models: verify one of them")
    raise CalibrationError("only transformers that are trained or served can be built here")


def _distinct(before: Sequence[Check], more: Sequence[Check]) -> list[Check]:
    """Return the checks whose items are not there yet, each once."""
    names = {check.item.name for check in before}
    kept = []
    for check in more:
        if check.item.name not in names:
            names.add(check.item.name)
            kept.append(check)
    return kept


def _pace_of(problems: Mapping[str, AnyProblem], host: str) -> float:
    """Return the pace at which a plan's calibration was measured on this host, s; 0 where none was."""
    for problem in problems.values():
        calibration = getattr(problem, "calibration", None)
        if calibration is not None and calibration.host == host and PACE in calibration.coefficients:
            return float(calibration.number(PACE))
    return 0.0


def _row(check: Check, sampled: Sampled, pace: float) -> Verified:
    return Verified(
        item=sampled.item, kind=check.kind, predicted=check.predicted, measured=sampled.median,
        pace=sampled.pace / pace if pace and sampled.pace else 1.0, spread=sampled.spread,
        samples=len(sampled.seconds), extrapolated=list(check.extrapolated), note=check.note,
    )  # fmt: skip
