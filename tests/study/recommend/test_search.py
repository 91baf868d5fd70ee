"""The smallest cluster against brute force: over tables of verdicts, and over clusters that were solved."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.costs import load_calibration
from planner.errors import InfeasibleError, StudyError
from planner.schema import loads as parsed
from planner.simulate import simulate_plan
from planner.solve import Budget
from planner.study import Documents, Study, Wishes, solve
from planner.study.recommend import By, Cluster, Question, load_block, recommend
from planner.study.recommend.blocks import clusters_of, mixtures
from planner.study.refine import refine
from planner.study.whatif.running import Runner, serial
from planner.topology import TopologyDocument
from planner.topology import resolve as resolve_topology
from planner.workload import WorkloadDocument
from planner.workload import resolve as resolve_workload
from tests.study.recommend.clusters import SERVICE, TableRunner, blocks_in, question, write_blocks

LOADS = (1.0, 2.0, 4.0)
BY: list[By] = ["gpus", "nodes", "cost"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds the blocks and the service."""
    place = tmp_path_factory.mktemp("blocks")
    write_blocks(place)
    return place


def _all(folder: Path, most: int, *, mix: bool) -> list[Cluster]:
    """Return every candidate."""
    blocks = blocks_in(folder, most)
    pure = [cluster for block in blocks for cluster in clusters_of(block)]
    return pure + (mixtures(blocks, most, "gpus") if mix else [])


@settings(max_examples=40)
@given(bits=st.integers(0, 2**60 - 1), by=st.sampled_from(BY), mix=st.booleans())
def test_the_answer_is_that_of_brute_force_whatever_holds(folder: Path, bits: int, by: By, mix: bool) -> None:
    """For any table of verdicts, monotone or not, nothing smaller holds than what is recommended."""
    every = _all(folder, 3, mix=True)
    table = {
        (one.name, load): bool(bits >> place & 1) for place, (one, load) in enumerate(product(every, LOADS))
    }
    runner = TableRunner(lambda name, load: table.get((name, load), False))
    found = recommend(question(folder, by, LOADS, mix=mix), runner)
    for load in LOADS:
        held = [one for one in _all(folder, 3, mix=mix) if table[one.name, load]]
        least = min((one.size(by) for one in held), default=None)
        if least is None:
            with pytest.raises(InfeasibleError, match="none of the"):
                found.best(load)
            continue
        assert found.best(load).cluster.size(by) == least
        assert found.proven(load)
        smaller = {one.name for one in _all(folder, 3, mix=mix) if one.size(by) < least}
        assert smaller == {point.cluster.name for point in found.smaller(load)}


@settings(max_examples=25)
@given(limit=st.floats(0.5, 5.0), halvings=st.integers(0, 3))
def test_the_load_that_a_cluster_carries_is_bracketed(folder: Path, limit: float, halvings: int) -> None:
    """A cluster that carries so much per GPU has its limit between the loads seen to hold and not to."""
    asked = question(folder, "gpus", LOADS)
    asked = Question(
        asked.workload, asked.blocks, asked.by, LOADS, max_nodes=3, halvings=halvings, options=asked.options
    )
    gpus = {cluster.name: cluster.gpus for cluster in _all(folder, 3, mix=False)}
    found = recommend(asked, TableRunner(lambda name, load: load <= limit * gpus[name]))
    assert found.capacities()
    for one in found.capacities():
        most = limit * one.cluster.gpus
        assert one.carries is None or one.carries <= most
        assert one.fails is None or one.fails > most
        if one.carries is None:
            assert one.fails == LOADS[0]
        elif one.fails is None:
            assert one.carries == LOADS[-1]
        else:
            widest = max(high - low for low, high in pairwise(LOADS))
            assert one.fails - one.carries <= widest / 2**halvings + 1e-12


def _holds(folder: Path, cluster: Cluster, load: float) -> bool:
    """Solve, simulate and refine a cluster by itself, its document written here."""
    machines = "\n".join(
        (folder / f"{block.name}.yaml").read_text(encoding="utf-8").split("machines:\n")[1]
        for block, _ in cluster.parts
    )
    nodes = [
        {"name": f"n-{block.name}-[0-{count - 1}]", "machine": block.name} for block, count in cluster.parts
    ]
    text = f"schema: topology/1\nname: brute\nmachines:\n{machines}\nnodes: {json.dumps(nodes)}\n"
    if cluster.nodes > 1:
        text += (
            "fabric: {layout: {shape: rail-optimised, oversubscription: {value: 1, source: t}, "
            "hop_latency: {value: 600 ns, source: t}}}\nsources: {t: test}\n"
        )
    rated = SERVICE.replace("20 req/s", f"{20 * load:g} req/s")
    topology = resolve_topology(parsed(text, TopologyDocument))
    documents = Documents(topology, resolve_workload(parsed(rated, WorkloadDocument)), load_calibration())
    budget = Budget(20.0)

    def again(cuts: tuple[object, ...]) -> Study:
        return solve(documents, budget, wishes=Wishes(cuts=cuts))  # type: ignore[arg-type]

    simulate = partial(_simulated, requests=300)
    try:
        refined = refine(solve(documents, budget), simulate, budget, again)
    except InfeasibleError:
        return False
    return refined.excess <= 0.0


def _simulated(study: Study, requests: int):  # type: ignore[no-untyped-def]
    return simulate_plan(study.problems, study.plan, requests=requests)


def test_solved_and_simulated_clusters_give_the_answer_of_brute_force(folder: Path, tmp_path: Path) -> None:
    """On blocks of one and two GPUs every cluster was solved by itself; the smallest that holds is found."""
    loads = (6.0, 7.5)  # one GPU carries the first; the second it carries on paper, not in simulation
    held = {load: [one for one in _all(folder, 2, mix=False) if _holds(folder, one, load)] for load in loads}
    assert [min(one.gpus for one in held[load]) for load in loads] == [1, 2]
    runner = Runner(tmp_path, serial)
    for by in BY:
        found = recommend(question(folder, by, loads, most=2), runner)
        for load in loads:
            assert found.best(load).cluster.size(by) == min(one.size(by) for one in held[load])
            assert found.proven(load)
            for limit in found.best(load).limits:
                assert 0.0 <= limit.low <= limit.value <= limit.limit
    assert runner.counts.solved < runner.counts.scenarios, "plans are shared between the questions"


def test_the_recommended_cluster_is_a_document_that_solves(folder: Path, tmp_path: Path) -> None:
    """What is recommended can be written down, and has the nodes that it says."""
    found = recommend(question(folder, "nodes", (9.0,), most=2), Runner(tmp_path, serial))
    best = found.best(9.0).cluster
    topology = resolve_topology(found.topology(9.0))
    assert (len(topology.nodes), len(topology.gpus)) == (best.nodes, best.gpus)


def test_clusters_that_cannot_be_resized_are_taken_whole() -> None:
    """A rack with links one by one is one block; it is refused where its nodes are too many."""
    rack = load_block("gb200-nvl72", None, None, 18)
    assert (rack.nodes, rack.gpus, rack.most) == (18, 72, 1)
    assert len(clusters_of(rack)) == 1
    with pytest.raises(StudyError, match="18 nodes"):
        load_block("gb200-nvl72", None, None, 4)
    grown = load_block("dgx-h100-x8", 3, 98.0, 8)
    assert (grown.nodes, grown.gpus, grown.most, grown.price) == (1, 8, 3, 98.0)


def test_machines_without_ports_stay_alone() -> None:
    """What cannot be joined is offered once, and the block says why."""
    alone = load_block("gh200-dual", None, None, 8)
    assert alone.most == 1
    assert "port" in alone.note


def test_questions_that_make_no_sense_are_refused(folder: Path) -> None:
    """No price for a question of cost, no blocks, no limits: each is said before anything is solved."""
    service, blocks = str(folder / "chat.yaml"), blocks_in(folder, 2)
    with pytest.raises(StudyError, match="price of gh200-single"):
        Question(service, (load_block("gh200-single", None, None, 2),), "cost")
    with pytest.raises(StudyError, match="at least one"):
        Question(service, ())
    with pytest.raises(StudyError, match="above zero"):
        Question(service, blocks, loads=(0.0,))
    runner = TableRunner(lambda name, load: True)
    with pytest.raises(StudyError, match="no limit"):
        recommend(Question("tiny-training", blocks), runner)
    with pytest.raises(StudyError, match="no traffic"):
        recommend(Question("tiny-training", blocks, loads=(2.0,), within=1.0), runner)
    assert runner.looked == 0
