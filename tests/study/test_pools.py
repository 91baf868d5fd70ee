"""A service with pools from its documents to its files: plan, proof, cuts, launch files, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from planner.deploy import kubernetes_bundle, launch_files
from planner.errors import InfeasibleError, PlannerError
from planner.placement import Plan, ServingPlan, ServingProblem
from planner.report import bundle_files
from planner.report.wording import job_sentence
from planner.schema import dump_yaml, loads
from planner.simulate import simulate_plan
from planner.solve import Budget
from planner.solve.cuts import Cut
from planner.solve.fixes import parse_fix
from planner.study import Documents, Study, Wishes, check_study, solve
from planner.study.replanning import replan
from tests.study.clusters import box, documents, topology

STAGE = ", before: [{name: tokenise, work: 2 ms, bytes_in: 2 kB, bytes_out: 2 kB}]"


def service(pools: str, slo: str = "{}", more: str = "") -> Documents:
    """Return a service of a small model on two nodes of four GPUs."""
    job = (
        "- {kind: serving, name: chat, model: {dims: {name: small, layers: 16, hidden: 2048, ffn: 8192, "
        "heads: 8, kv_heads: 8, head_dim: 256, vocab: 32000}}, "
        f"degrees: {{pp: [1], tp: [1, 2], replicas: [1, 2], pools: {pools}}}, slo: {slo}{more}, "
        "traffic: {rate: 20 req/s, prompt: {mean: 1000, cv: 0.5}, output: {mean: 100, cv: 0.5}}}"
    )
    nodes = '[{name: "node-[0-1]", machine: box}]'
    return documents(topology(box(gpus=4), nodes=nodes), job)


@cache
def solved() -> Study:
    """Return the study of a service that has to have pools."""
    return solve(service("[disaggregated]"), Budget(20.0))


def chat(study: Study) -> ServingPlan:
    """Return the plan of the service, which has pools."""
    plan = study.plan.jobs[0]
    assert isinstance(plan, ServingPlan)
    assert plan.prefill is not None
    return plan


def test_the_plan_says_what_each_pool_is_and_what_was_proven() -> None:
    """The summary names both pools, the proof the pairs, and memory is given for either."""
    study = solved()
    assert study.plan.status == "optimal"
    assert "pairs of pools priced" in study.plan.proof
    assert any(item.decision == "tensor parallel for prompts" for item in study.plan.why)
    assert "for prompts" in job_sentence(study.plan.jobs[0])


def test_a_plan_with_pools_survives_its_file() -> None:
    """Written and read again it is the same plan, with the GPUs of both pools."""
    study = solved()
    again = loads(dump_yaml(study.plan), Plan)
    assert again == study.plan
    assert len(again.jobs[0].gpus()) == len(set(chat(study).gpus()))


def test_the_links_between_the_pools_carry_the_caches() -> None:
    """What is predicted to leave the GPUs for prompts holds the caches of all requests, as simulated."""
    study = solved()
    problem, plan = study.problems["chat"], chat(study)
    assert isinstance(problem, ServingProblem)
    model = problem.model
    caches = 20.0 * 1000.0 * 2 * model.kv_heads * model.head_dim * model.layers * 2
    senders = {gpu for replica in plan.pools()[0].replicas for gpu in replica.gpus()}
    predicted = sum(link.load for link in study.plan.links if link.source in senders)
    assert predicted >= caches
    result = simulate_plan(study.problems, study.plan, requests=400)
    carried = sum(link.carried for link in result.links if link.source in senders)
    assert carried / result.horizon == pytest.approx(predicted, rel=0.2)


def test_caches_of_fewer_bytes_are_found() -> None:
    """A plan that states a lighter load of a link than its caches put there does not pass."""
    study = solved()
    assert check_study(study) == []
    first, *others = study.plan.links
    lighter = first.model_copy(update={"load": 0.99 * first.load})
    plan = study.plan.model_copy(update={"links": [lighter, *others]})
    assert any("load" in text for text in check_study(replace(study, plan=plan)))
    elsewhere = first.model_copy(update={"source": "node-1/nic0", "target": "node-1/none"})
    plan = study.plan.model_copy(update={"links": [elsewhere, *others]})
    assert any("carries nothing" in text for text in check_study(replace(study, plan=plan)))


def test_launch_files_start_both_pools() -> None:
    """Every server may hand caches on, a file lists them for a router, and manifests have one."""
    study = solved()
    files = launch_files(study.plan, study.topology, study.workload)
    servers = {name: text for name, text in files.items() if name.endswith("serve-0.sh")}
    pools = json.loads(files["chat/pools.json"])
    assert [len(pools[role]) for role in ("prefill", "decode")] == [
        len(pool.replicas) for pool in chat(study).pools()
    ]
    assert len(servers) == sum(map(len, pools.values()))
    assert len({address for role in pools.values() for address in role}) == len(servers)
    for text in servers.values():
        assert '"kv_connector":"NixlConnector"' in text
        assert "VLLM_NIXL_SIDE_CHANNEL_PORT" in text
    assert "base/chat/deployment.yaml" in kubernetes_bundle(study.plan, study.topology, study.workload)


def test_the_folder_of_a_solve_has_both_pools() -> None:
    """Manifests bring the router, launch files the list of addresses for one."""
    study = solved()
    files = bundle_files(study, None, Path("plan.yaml"))
    assert "router" in files["k8s/base/chat/deployment.yaml"]
    assert "launch/chat/pools.json" in files
    assert "prefill-0" in files["plan.yaml"]


def test_a_pair_that_simulation_refutes_is_left_out() -> None:
    """With a cut the next best pair comes out, no better than the first."""
    study = solved()
    plan, problem = chat(study), study.problems["chat"]
    assert plan.prefill is not None
    assert isinstance(problem, ServingProblem)
    cut = Cut(problem.device.name, plan.strategy, "refuted", plan.prefill.strategy)
    other = solve(service("[disaggregated]"), Budget(20.0), None, Wishes(cuts=(cut,)))
    second = chat(other)
    assert second.prefill is not None
    assert (second.prefill.strategy, second.strategy) != (plan.prefill.strategy, plan.strategy)
    assert other.plan.objective.value >= study.plan.objective.value


def test_pools_can_be_fixed() -> None:
    """``--fix pools=disaggregated`` insists on pools, and a degree that is fixed holds in both."""
    wishes = Wishes(fixes=(parse_fix("pools=disaggregated"), parse_fix("tp=2")))
    plan = chat(solve(service("[aggregated, disaggregated]"), Budget(20.0), None, wishes))
    assert plan.prefill is not None
    assert (plan.prefill.strategy.tp, plan.strategy.tp) == (2, 2)


def test_services_with_cpu_stages_stay_whole() -> None:
    """Pools have no CPU stages: where both kinds are allowed the plan says so, else nothing fits."""
    both = solve(service("[aggregated, disaggregated]", more=STAGE), Budget(20.0))
    assert "no pools, as the job has CPU stages" in both.plan.proof
    with pytest.raises(InfeasibleError, match="cannot have CPU stages"):
        solve(service("[disaggregated]", more=STAGE), Budget(20.0))


def test_limits_that_no_pools_hold_are_named() -> None:
    """A time per token of a microsecond is beyond any pair of pools."""
    with pytest.raises(InfeasibleError, match="no two pools") as caught:
        solve(service("[disaggregated]", slo="{tpot_p99: 1 us}"), Budget(20.0))
    assert any("tpot_p99" in item for item in caught.value.conflicts)


def test_plans_with_pools_are_hinted_not_kept() -> None:
    """Keeping replicas in place is for services without pools; the message says what to do instead."""
    study = solved()
    with pytest.raises(PlannerError, match="--hint"):
        replan(service("[disaggregated]"), study.plan, None, Budget(20.0))
