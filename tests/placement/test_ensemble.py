"""The judge of ensembles: records and designs, slices, and every kind of rule that a plan may break."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import pytest

from planner.costs import load_calibration
from planner.placement import EnsemblePlan, EnsembleProblem, check_job, design_of, ensemble_plan, make_problem
from planner.placement.ensemble_cuts import cut_gpus
from planner.placement.ensemble_design import Design, Group, Pools, Tenant
from planner.placement.slices import cut_problems
from planner.topology import load_topology
from planner.topology.devices import find_device
from planner.workload import EnsembleJob, StageGraph

GPU = {"flops": 2e11, "bytes": 1e8, "weights": 1e9, "kernels": 20, "max_batch": 8}


@cache
def problem() -> EnsembleProblem:
    """Return a decoder on the host and two GPU stages, for two classes, on a DGX H100."""
    job = EnsembleJob.model_validate(
        {
            "kind": "ensemble",
            "name": "e",
            "classes": [
                {"name": "fast", "rate": 100.0, "slo": {"latency_p99": 0.5}},
                {"name": "bulk", "rate": 10.0, "items": 4},
            ],
            "stages": [
                {"name": "decode", "cpu": {"work": 2e-3, "memory": 1e8}, "bytes_in": 1e5, "bytes_out": 1e6},
                {"name": "encode", "gpu": GPU, "bytes_in": 1e6, "bytes_out": 1e6},
                {"name": "score", "gpu": GPU, "bytes_in": 1e6, "bytes_out": 1e3},
            ],
        }
    )
    made = make_problem(job, StageGraph(tuple(job.stages)), load_topology("dgx-h100"), load_calibration())
    assert isinstance(made, EnsembleProblem)
    return made


def design() -> Design:
    """Return a design with a slice, a shared GPU with priorities, and two pools."""
    fast = Tenant(1, (0,), 1, 0.0, high=True)
    bulk = Tenant(1, (1,), 4, 0.0)
    score = Tenant(2, (0, 1), 4, 0.0)
    modes = {(index, request): "pinned-copy" for index in (1, 3) for request in (0, 1)}
    return Design(
        (Pools(0, 4, (0, 1)),),
        (Group((fast, bulk), None, (1, 1)), Group((score,), "3g.40gb", (2, 0))),
        modes,  # type: ignore[arg-type]
    )


def plan() -> EnsemblePlan:
    """Return its plan."""
    return ensemble_plan(problem(), design())


def test_a_plan_states_its_design_and_breaks_no_rule() -> None:
    """Writing a design down and reading it back gives the same decisions, and the judge has no objection."""
    made = plan()
    assert design_of(problem(), made) == design()
    assert check_job(problem(), made) == []
    assert len(made.gpus()) == 3


def test_data_between_a_slice_and_a_gpu_are_staged_in_host_memory() -> None:
    """A slice has no peer path: from whole GPUs to slices data go through the host, slower than by NVLink."""
    moved = next(each for each in plan().transfers if (each.source, each.target) == ("encode", "score"))
    size = moved.size
    assert moved.carrier == "staged-copy"
    direct = problem().prices.peer_copy(size)
    assert direct is not None
    assert direct[0] < problem().prices.staged_copy(size)[0]


def change(of: str, number: int, **fields: object) -> Callable[[], EnsemblePlan]:
    """Return how to change one entry of a list of the plan."""

    def changed() -> EnsemblePlan:
        whole = plan()
        entries = list(getattr(whole, of))
        entries[number] = entries[number].model_copy(update=fields)
        return whole.model_copy(update={of: entries})

    return changed


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (change("instances", 0, gpu="dgx-h100/gpu9"), "unknown GPU"),
        (change("instances", 0, gpu="dgx-h100/gpu2"), "not equal|serves a class"),
        (change("instances", 4, start=4), "not equal|overlap|twice|cannot start"),
        (change("instances", 4, start=1), "cannot start at slice 1"),
        (change("instances", 4, mig="5g.60gb"), "lacks it"),
        (change("instances", 0, max_batch=64), "not equal"),
        (change("instances", 0, utilisation=0.01), "utilisation"),
        (change("pools", 0, workers=5), "not equal"),
        (change("pools", 0, core_list="0-3"), "not its own"),
        (change("pools", 0, numa="numa7"), "no NUMA domain"),
        (change("routes", 0, to="group-0"), "route of"),
        (change("transfers", 0, seconds=1e-6), "transfers"),
        (change("transfers", 0, request="none"), "no class"),
    ],
)
def test_every_changed_decision_is_found(broken: Callable[[], EnsemblePlan], words: str) -> None:
    """Wherever one figure of a plan is changed, the judge names a rule that it breaks."""
    found = check_job(problem(), broken())
    assert found
    assert any(re.search(words, text) for text in found), found


def test_predictions_are_the_judges() -> None:
    """A plan that promises a shorter percentile than the judge finds is refused."""
    made = plan()
    better = made.prediction.model_copy(update={"latency_p99": made.prediction.latency_p99 / 2})
    found = check_job(problem(), made.model_copy(update={"prediction": better}))
    assert any("latency_p99" in text for text in found)


def test_parts_of_the_mean_add_up() -> None:
    """Cores, queues, transfers, batches and GPUs make the mean of the slowest path of every class."""
    for said in plan().prediction.classes:
        assert sum(said.breakdown.values()) == pytest.approx(said.latency_mean)
        assert said.latency_p99 > said.latency_mean


@pytest.mark.parametrize(
    "wanted", [{"1g.10gb": 9}, {"3g.40gb": 3, "1g.10gb": 2}, {"4g.40gb": 1, "2g.20gb": 2}]
)
def test_slices_are_cut_as_the_gpu_allows(wanted: dict[str, int]) -> None:
    """All slices are dealt out, and no GPU is cut in a way that it does not have."""
    device = find_device("h100-sxm-80")
    cuts = cut_gpus(device, wanted, 8)
    assert cuts is not None
    assert all(cut_problems(device, own) == [] for own in cuts)
    dealt = [cut.profile for own in cuts for cut in own]
    assert {name: dealt.count(name) for name in wanted} == wanted


def test_too_many_slices_do_not_fit() -> None:
    """Fifteen slices of a seventh need three GPUs."""
    device = find_device("h100-sxm-80")
    assert cut_gpus(device, {"1g.10gb": 15}, 2) is None
    found = cut_gpus(device, {"1g.10gb": 15}, 3)
    assert found is not None
    assert len(found) == 3
