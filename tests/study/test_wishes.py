"""Fixes, re-planning and shadow questions on whole studies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.errors import InfeasibleError, PlannerError
from planner.placement import TrainingPlan
from planner.solve import Budget
from planner.solve.fixes import FixError, parse_fix
from planner.study import Documents, Study, Wishes, check_study, replan, shadows, solve
from planner.topology import Topology
from tests.study.clusters import box, documents, serving, topology, training


def nodes(names: str) -> Topology:
    """Return nodes of two GPUs each on one switch."""
    return topology(box(), nodes=f'[{{name: "{names}", machine: box}}]')


def fixed(inputs: Documents, *texts: str) -> Study:
    """Solve under fixes."""
    return solve(inputs, Budget(), None, Wishes(fixes=tuple(map(parse_fix, texts))))


def test_a_fixed_solve_obeys_is_never_better_than_free_and_says_so() -> None:
    """Degrees and GPUs are held, the free optimum is a lower bound, and the proof names the fixes."""
    inputs = documents(nodes("n-[0-3]"), training("train"))
    free, held = solve(inputs, Budget()), fixed(inputs, "tp=2", "nodes=n-[2-3]")
    job = held.plan.jobs[0]
    assert isinstance(job, TrainingPlan)
    assert job.strategy.tp == 2
    assert {gpu.split("/")[0] for gpu in job.gpus()} <= {"n-2", "n-3"}
    assert held.plan.objective.value >= free.plan.objective.value * (1 - 1e-9)
    assert "--fix tp=2, --fix nodes=n-[2-3]" in held.plan.proof
    assert check_study(held) == []
    again = solve(inputs, Budget(seconds=0.0), None, Wishes(hint=held.plan))
    assert again.plan.objective.value <= held.plan.objective.value * (1 + 1e-12)


def test_a_fix_that_leaves_nothing_is_named_with_the_nearest_that_fits() -> None:
    """Only the fix to blame is in conflict, and with the value that the remedy names there is a plan."""
    inputs = documents(nodes("n-[0-3]"), training("train"))
    with pytest.raises(InfeasibleError, match="nothing fits under --fix tp=3") as caught:
        fixed(inputs, "tp=3", "pp=1")
    assert "--fix tp=3" in caught.value.conflicts
    assert "--fix pp=1" not in caught.value.conflicts
    remedy = caught.value.remedy.split("--fix ")[1].split(",")[0]
    assert fixed(inputs, remedy, "pp=1").plan.jobs


def test_two_fixes_in_conflict_are_named_together() -> None:
    """Each of them alone would do; the remedies say how to give way in either."""
    inputs = documents(nodes("n-[0-1]"), training("train"))
    with pytest.raises(InfeasibleError, match="with") as caught:
        fixed(inputs, "tp=4", "dp=2")
    assert {"--fix tp=4", "--fix dp=2"} <= set(caught.value.conflicts)
    assert caught.value.remedy.count("--fix") == 2


def test_what_fits_in_no_way_is_not_blamed_on_a_fix() -> None:
    """The message is that of the problem without fixes."""
    inputs = documents(nodes("n-[0-1]"), training("train", "llama3-405b"))
    with pytest.raises(InfeasibleError) as caught:
        fixed(inputs, "dp=1")
    assert not any("--fix" in item for item in caught.value.conflicts)


def test_several_jobs_take_fixes_of_degrees_only() -> None:
    """A degree of one of two jobs can be fixed; where a job runs, and a hint, need a single job."""
    inputs = documents(nodes("n-[0-1]"), serving("one"), serving("two"))
    study = fixed(inputs, "one.tp=2")
    first = study.plan.jobs[0]
    assert first.strategy.tp == 2  # type: ignore[union-attr]
    with pytest.raises(FixError, match="only job"):
        fixed(inputs, "nodes=n-0")
    with pytest.raises(PlannerError, match="single job"):
        solve(inputs, Budget(), None, Wishes(hint=study.plan))


def test_a_lost_node_moves_only_its_ranks() -> None:
    """The plan of four nodes, one of them replaced by a spare: two ranks move, the judge agrees."""
    before = solve(documents(nodes("n-[0-3]"), training("train")), Budget())
    after = replan(documents(nodes("n-[0,2-4]"), training("train")), before.plan, 2, Budget())
    assert check_study(after) == []
    assert after.plan.why[0].chosen == "2"
    assert [item.alternative for item in after.plan.why[1:3]] == ["n-1/gpu0", "n-1/gpu1"]
    assert after.plan.objective.value == pytest.approx(before.plan.objective.value, rel=1e-6)
    assert after.plan.bound <= after.plan.objective.value


def test_too_few_moves_name_the_least_number_that_works() -> None:
    """A job whose degrees need all GPUs cannot keep still when some are gone."""
    text = training("train").replace("cp: [1]", "cp: [1], tp: [2], pp: [1], dp: [4]")
    before = solve(documents(nodes("n-[0-3]"), text), Budget())
    damaged = documents(nodes("n-[0,2-4]"), text)
    with pytest.raises(InfeasibleError, match="--max-moves 2"):
        replan(damaged, before.plan, 1, Budget())
    assert replan(damaged, before.plan, 2, Budget()).plan.why[0].chosen == "2"


def test_a_plan_of_another_workload_or_of_several_jobs_is_not_kept() -> None:
    """Both are refused with a reason."""
    before = solve(documents(nodes("n-[0-1]"), training("train")), Budget())
    with pytest.raises(PlannerError, match="no job 'chat'"):
        replan(documents(nodes("n-[0-1]"), serving("chat")), before.plan, None, Budget())
    with pytest.raises(PlannerError, match="single job"):
        replan(documents(nodes("n-[0-1]"), training("train"), serving("two")), before.plan, None, Budget())


def test_a_kept_service_keeps_its_cores() -> None:
    """Replicas that stay have the same GPUs, NUMA domains and core lists as before."""
    job = serving("chat", rate=4.0).replace(
        "traffic:", "degrees: {tp: [1], pp: [1], replicas: [4]}, traffic:"
    )
    before = solve(documents(nodes("n-[0-1]"), job), Budget())
    after = replan(documents(nodes("n-[1-2]"), job), before.plan, 2, Budget())
    assert check_study(after) == []
    old = {tuple(r.gpus()): r.stages for r in before.plan.jobs[0].replicas}  # type: ignore[union-attr]
    new = {tuple(r.gpus()): r.stages for r in after.plan.jobs[0].replicas}  # type: ignore[union-attr]
    for gpus in set(old) & set(new):
        assert [s.core_list for s in old[gpus]] == [s.core_list for s in new[gpus]]
    assert len(set(old) & set(new)) == 2


def test_shadow_answers_are_never_worse_than_the_plan_and_are_bounded() -> None:
    """More of the machine never hurts, and no gain exceeds what its bound allows."""
    study = solve(documents(nodes("n-[0-1]"), training("train")), Budget())
    answers = shadows(study, Budget(seconds=30.0))
    assert [answer.question for answer in answers] == [
        "one more node", "10% more GPU memory", "links between GPUs 10% faster",
    ]  # fmt: skip
    for answer in answers:
        assert answer.gain is not None
        assert answer.most is not None
        assert -1e-9 <= answer.gain <= answer.most + 1e-9
    assert answers[0].gain is not None
    assert answers[0].gain > 0.1
    assert answers[2].gain is not None
    assert answers[2].gain > 0.0


def test_a_single_machine_is_asked_about_one_more_gpu() -> None:
    """Without nodes in the document the question is about a GPU, for training jobs."""
    study = solve(documents(topology(box(gpus=3)), training("train")), Budget())
    assert shadows(study, Budget(seconds=30.0))[0].question == "one more GPU"
    both = replace(study, plan=study.plan.model_copy(update={"jobs": [*study.plan.jobs, *study.plan.jobs]}))
    with pytest.raises(PlannerError, match="one training or serving job"):
        shadows(both, Budget())
