"""Operator graphs read from files and from documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from planner.errors import DocumentError
from planner.workload.operator_files import read_operators
from planner.workload.operators import OperatorsJob, graph_of


def node(key: int, **fields: Any) -> dict[str, Any]:
    """Return a node of the JSON form."""
    times = {"supportedOnFpga": 1, "cpuLatency": 10.0, "fpgaLatency": 1.0, "isBackwardNode": 0, "size": 8.0}
    return {"id": key, "name": f"n{key}"} | times | fields


def document(**fields: Any) -> dict[str, Any]:
    """Return a graph of two nodes."""
    edges = [{"sourceId": 1, "destId": 2, "cost": 0.5, "size": 3.0}]
    machine = {"maxSizePerFPGA": 64.0, "maxFPGAs": 2, "maxCPUs": 1}
    return machine | {"nodes": [node(1), node(2, colorClass=7)], "edges": edges} | fields


def written(folder: Path, content: Any) -> Path:
    """Return the path of a file with some content as JSON."""
    path = folder / "graph.json"
    path.write_text(json.dumps(content, indent=1))
    return path


def test_the_json_form_is_read_in_the_stated_unit(tmp_path: Path) -> None:
    """Times are scaled by the unit, the cost of an edge belongs to its source, bytes stay."""
    file = read_operators(written(tmp_path, document()), time_unit=1e-3)
    first, second = file.graph.operators
    assert (first.accelerator_time, first.cpu_time, first.transfer_time) == (1e-3, 1e-2, 5e-4)
    assert (second.colour, second.transfer_time, second.size) == ("7", 0.0, 8.0)
    assert (file.num_accelerators, file.num_cpus, file.memory) == (2, 1, 64.0)
    assert file.graph.edges == ((0, 1),)


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"nodes": [node(1), node(1)]}, "nodes.1.id", "twice"),
        ({"nodes": [node(1), node(2, size=-1)]}, "nodes.1.size", "from 0"),
        ({"nodes": [node(1), node(2, fpgaLatency="x")]}, "nodes.1.fpgaLatency", "number"),
        ({"nodes": [node(1), node(2, isBackwardNode=3)]}, "nodes.1.isBackwardNode", "true or false"),
        ({"nodes": 3, "edges": []}, "nodes", "list"),
        ({"nodes": [1], "edges": []}, "nodes.0", "record"),
        ({"edges": [{"sourceId": 1, "destId": 3, "cost": 1}]}, "edges.0.destId", "no node 3"),
        ({"edges": [{"sourceId": 1, "destId": 2}]}, "edges.0.cost", "number"),
        ({"maxFPGAs": 1.5}, "maxFPGAs", "whole"),
        ({"maxSizePerFPGA": None}, "maxSizePerFPGA", "number"),
    ],
)
def test_mistakes_are_reported_where_they_are(
    tmp_path: Path, change: dict[str, Any], place: str, words: str
) -> None:
    """Each mistake names its dotted path and a line of the file."""
    with pytest.raises(DocumentError) as caught:
        read_operators(written(tmp_path, document(**change)))
    found = {problem.where: problem for problem in caught.value.problems}
    assert words in found[place].text
    assert found[place].line >= 1


def test_cycles_and_differing_costs_are_refused(tmp_path: Path) -> None:
    """A graph must have an order, and a source one cost."""
    around = [{"sourceId": 1, "destId": 2, "cost": 1}, {"sourceId": 2, "destId": 1, "cost": 1}]
    with pytest.raises(DocumentError, match="cycle"):
        read_operators(written(tmp_path, document(edges=around)))
    nodes = [node(1), node(2), node(3)]
    differing = [{"sourceId": 1, "destId": 2, "cost": 1}, {"sourceId": 1, "destId": 3, "cost": 2}]
    with pytest.raises(DocumentError, match="one cost"):
        read_operators(written(tmp_path, document(nodes=nodes, edges=differing)))


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    """A list, broken JSON and a missing file are errors of the document."""
    for content in ("[]", "{", '{"nodes": NaN}'):
        path = tmp_path / "graph.json"
        path.write_text(content)
        with pytest.raises(DocumentError):
            read_operators(path)
    with pytest.raises(DocumentError):
        read_operators(tmp_path / "absent.json")


def test_a_job_holds_its_graph_or_names_a_file() -> None:
    """Operators written in a document become a graph; with a file besides, or neither, it is refused."""
    specs = [
        {"name": "a", "accelerator_time": 1e-3, "cpu_time": 1e-2, "transfer_time": 1e-4},
        {"name": "b", "accelerator_time": 2e-3, "inputs": ["a"]},
    ]
    job = OperatorsJob.model_validate({"kind": "operators", "name": "j", "operators": specs})
    graph = graph_of(job.operators)
    assert graph.edges == ((0, 1),)
    assert graph.operators[0].transfer_time == 1e-4
    for wrong in ({"graph": "x.json", "operators": specs}, {}):
        with pytest.raises(ValidationError, match="exactly one"):
            OperatorsJob.model_validate({"kind": "operators", "name": "j"} | wrong)


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ([{"name": "a", "inputs": ["b"]}], "no operator 'b'"),
        ([{"name": "a"}, {"name": "a"}], "twice"),
        ([{"name": "a", "inputs": ["b"]}, {"name": "b", "inputs": ["a"]}], "cycle"),
    ],
)
def test_inline_graphs_are_checked(specs: list[dict[str, Any]], words: str) -> None:
    """Dangling names, names given twice and cycles are refused."""
    with pytest.raises(ValidationError, match=words):
        OperatorsJob.model_validate({"kind": "operators", "name": "j", "operators": specs})
