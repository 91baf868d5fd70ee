"""Scenarios: the grid or the zip of the values, each with the inputs that the values stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.errors import DocumentError, StudyError
from planner.study.whatif import StudyDocument, make_scenarios
from planner.topology import load_topology
from tests.study.whatif.studies import study_in


def _varied(folder: Path, *parameters: dict[str, Any], combine: str = "cross", **base: str) -> StudyDocument:
    study_in(folder)
    inputs = {"topology": "machine.yaml", "workload": "job.yaml"} | base
    return StudyDocument.model_validate({"name": "s", **inputs, "vary": list(parameters), "combine": combine})


def test_a_grid_has_every_combination_and_each_is_what_it_says(tmp_path: Path) -> None:
    """Four scenarios; the link is slower and the rate higher exactly where the labels say so."""
    scenarios = make_scenarios(study_in(tmp_path), tmp_path)
    assert [tuple(one.labels.values()) for one in scenarios] == [
        ("1 x", "1 req/s"), ("1 x", "2 req/s"), ("0.01 x", "1 req/s"), ("0.01 x", "2 req/s"),
    ]  # fmt: skip
    for one in scenarios:
        documents = one.documents()
        links = documents.topology.document.machines[0].links
        rates = {link.kind: link.bandwidth.value for link in links}
        job = documents.workload.jobs[0].job
        assert rates["nvlink"] == pytest.approx(200e9 if one.labels["nvlink"] == "1 x" else 2e9)
        assert rates["pcie"] == 50e9
        assert f"{job.traffic.rate:g} req/s" == one.labels["rate"]  # type: ignore[union-attr]


def test_a_zip_pairs_values_up(tmp_path: Path) -> None:
    """As many scenarios as values; another number of values is refused."""
    one = {"parameter": "workload.jobs[0].traffic.rate", "values": ["1 req/s", "2 req/s"]}
    two = {"parameter": "options.seed", "values": [5, 6]}
    scenarios = make_scenarios(_varied(tmp_path, one, two, combine="zip"), tmp_path)
    assert [(scenario.labels["options.seed"], scenario.options.seed) for scenario in scenarios] == [
        ("5", 5), ("6", 6),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="as many values"):
        _varied(tmp_path, one, {**two, "values": [1]}, combine="zip")


def test_whole_inputs_and_counts_of_nodes_can_vary(tmp_path: Path) -> None:
    """A preset takes the place of the machine; a group of nodes grows."""
    whole = {"parameter": "topology", "values": ["machine.yaml", "hgx-h200"]}
    names = [one.documents().topology.name for one in make_scenarios(_varied(tmp_path, whole), tmp_path)]
    assert names == ["small", "hgx-h200"]
    grown = {"parameter": "topology.nodes[0].count", "values": [1, 3, 12]}
    study = _varied(tmp_path, grown, topology="dgx-h100-x8")
    sizes = [len(one.documents().topology.nodes) for one in make_scenarios(study, tmp_path)]
    assert sizes == [1, 3, 12]


def test_links_can_be_taken_down(tmp_path: Path) -> None:
    """The named link is gone from a range and nothing else is; a link that is not there is refused."""
    down = {"parameter": "topology.links_down", "values": [[], [["gpu1", "pcie"]]]}
    whole, cut = make_scenarios(_varied(tmp_path, down), tmp_path)
    assert cut.labels == {"topology.links_down": "gpu1-pcie"}
    machines = [one.documents().topology.nodes[0].machine for one in (whole, cut)]
    gone = set(machines[0].graph.edges) - set(machines[1].graph.edges)
    assert gone == {("gpu1", "pcie"), ("pcie", "gpu1")}
    with pytest.raises(StudyError, match="no link between"):
        make_scenarios(_varied(tmp_path, {**down, "values": [[["gpu1", "gpu7"]]]}), tmp_path)


def test_a_value_that_makes_no_document_is_found_with_its_field(tmp_path: Path) -> None:
    """The message names the scenario and the field."""
    wrong = {"parameter": "workload.jobs[0].traffic.rate", "values": ["2 GB"]}
    (scenario,) = make_scenarios(_varied(tmp_path, wrong), tmp_path)
    with pytest.raises(
        DocumentError, match=r"scenario \(workload.jobs\[0\].traffic.rate = 2 GB\)(.|\n)*rate"
    ):
        scenario.documents()
    with pytest.raises(StudyError, match="starts with topology"):
        make_scenarios(_varied(tmp_path, {**wrong, "parameter": "jobs[0].rate"}), tmp_path)


def test_factors_may_be_a_range(tmp_path: Path) -> None:
    """From half to all of the rate in three steps; a range of factors has no unit."""
    nvlink = {"parameter": "topology.machines[0].links[kind=nvlink].bandwidth", "label": "nvlink"}
    spread = {**nvlink, "factors": {"start": 0.5, "stop": 1.0, "steps": 3}}
    scenarios = make_scenarios(_varied(tmp_path, spread), tmp_path)
    assert [one.labels["nvlink"] for one in scenarios] == ["0.5 x", "0.75 x", "1 x"]
    machines = [one.documents().topology.document.machines[0] for one in scenarios]
    rates = [link.bandwidth.value for machine in machines for link in machine.links if link.kind == "nvlink"]
    assert rates == [pytest.approx(factor * 200e9) for factor in (0.5, 0.75, 1.0)]
    with pytest.raises(ValueError, match="without a unit"):
        _varied(tmp_path, {**nvlink, "factors": {"start": "50 GB/s", "stop": "90 GB/s", "steps": 3}})


def test_hosts_and_gpus_can_be_exchanged(tmp_path: Path) -> None:
    """Every domain gets the RISC-V processor and every GPU becomes a B200; links and memory stay."""
    host = {"parameter": "topology.host", "label": "host", "values": ["stated", "riscv-sg2044-pcie5"]}
    gpu = {"parameter": "topology.machines[*].gpus[*].device", "label": "gpu", "values": ["b200-sxm"]}
    study = _varied(tmp_path, host, gpu, topology="hgx-h200")
    before, after = (one.documents().topology for one in make_scenarios(study, tmp_path))
    other = load_topology("riscv-sg2044-pcie5").nodes[0].machine.numa[0]
    for stated, found in zip(before.nodes[0].machine.numa, after.nodes[0].machine.numa, strict=True):
        assert stated.arch == "x86_64"
        for field in ("arch", "cpu", "cores", "vector_bits"):
            assert getattr(found, field) == getattr(other, field)
        assert found.core_speed.value == other.core_speed.value
        assert found.memory_bandwidth.value == other.memory_bandwidth.value
        assert found.core_speed.source not in load_topology("riscv-sg2044-pcie5").document.sources
        assert found.memory == stated.memory
    for topology in (before, after):
        assert {topology.device(name).name for name in topology.gpus} == {"b200-sxm"}
    assert before.nodes[0].machine.edges == after.nodes[0].machine.edges


def test_two_links_can_be_down_in_a_mesh(tmp_path: Path) -> None:
    """Of the six links among four modules four are left."""
    down = {
        "parameter": "topology.links_down", "label": "down",
        "values": [[], [["gpu0", "gpu1"], ["gpu2", "gpu3"]]],
    }  # fmt: skip
    study = _varied(tmp_path, down, topology="gh200-quad")
    graphs = [one.documents().topology.nodes[0].machine.graph for one in make_scenarios(study, tmp_path)]
    pairs = [
        {frozenset(edge) for edge in graph.edges if all(e.startswith("gpu") for e in edge)}
        for graph in graphs
    ]
    assert [len(found) for found in pairs] == [6, 4]
    assert pairs[0] - pairs[1] == {frozenset(("gpu0", "gpu1")), frozenset(("gpu2", "gpu3"))}
