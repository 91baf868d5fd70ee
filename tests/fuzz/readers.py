"""Every reader of the program, as a function of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from unittest import mock

from planner.calibrate.graphs_onnx import export_onnx
from planner.calibrate.imported import import_files
from planner.calibrate.importers import read as read_output
from planner.calibrate.samples import Samples
from planner.calibrate.tables import read_table
from planner.calibrate.verification import Verification
from planner.costs import Calibration
from planner.deploy.judge import judge
from planner.deploy.target_document import load_target
from planner.placement import Plan
from planner.placement.torchrec_plan import import_plan
from planner.report.comparison import Side, compare
from planner.report.comparison_page import render_comparison
from planner.schema import Document, load, read_text
from planner.schema.manifests import read_manifests
from planner.simulate import Scenario, load_trace
from planner.simulate.requests import read_trace
from planner.simulate.result import SimulationResult
from planner.solve.fixes import parse_fix
from planner.study.accuracy import accuracy_of_file
from planner.study.gates import Gates, Prometheus
from planner.study.whatif import load_whatif
from planner.study.whatif.scenarios import make_scenarios
from planner.topology import DeviceCatalogue, load_topology
from planner.topology.importers.assemble import assemble
from planner.topology.importers.detect import read as read_dump
from planner.topology.importers.nccl_export import from_nccl_xml
from planner.workload import ModelDocument, load_workload
from planner.workload.hf_config import read_config
from planner.workload.operator_files import read_operators
from planner.workload.tables import EmbeddingTable, read_tables
from tests.fuzz import seeds
from tests.topology.importers.samples_fabric import dgx_table

Read = Callable[[Path], object]
EMBEDDINGS = [EmbeddingTable(name=name, rows=1001, dim=128, pooling=1.0) for name in ("t", "u")]


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes
    ----------
    name
        Of the file that it is given, which tells some readers the format.
    seeds
        Makes sound files.
    share
        Its part of the cases, relative to the others.
    """

    name: str
    read: Read
    seeds: Callable[[], seeds.Seeds]
    share: float = 1.0


def document(kind: type[Document]) -> Read:
    """Return the reader of a kind of document."""
    return lambda path: load(path, kind)


def plan(path: Path) -> object:
    """Read a plan, and compare it with itself, which looks at everything that it decides."""
    side = Side(path, load(path, Plan))
    return render_comparison(compare(side, side))


def manifests(path: Path) -> object:
    """Read manifests and judge them as `planner check k8s` does."""
    return judge(read_manifests(read_text(path), str(path)))


def study(path: Path) -> object:
    """Read a study and make its scenarios, which looks up every path that it names."""
    found = load_whatif(path)
    count = 1
    for parameter in found.vary:
        count *= len(parameter.settings())
    return make_scenarios(found, path.parent) if count <= 64 else found


def answer(path: Path) -> object:
    """Read what a Prometheus server answers."""
    body = path.read_bytes()

    class Answer:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            """Close nothing."""

        def read(self, most: int) -> bytes:
            return body[:most]

    server = Prometheus("http://prometheus:9090")
    with mock.patch("urllib.request.urlopen", return_value=Answer()):
        return server.query("up"), server.labels("up", "job")


def words(path: Path) -> object:
    """Read each line as what a user fixes with --fix."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    return [parse_fix(line) for line in text.split("\n")]


def carried(path: Path) -> object:
    """Read the topology that NCCL's file may carry."""
    return from_nccl_xml(path.read_text(encoding="utf-8", errors="replace"), str(path))


def requests(path: Path) -> object:
    """Read the first requests of a trace."""
    return read_trace(path, 10)


def host(path: Path) -> object:
    """Make the topology of a host from one dump."""
    return assemble([path], None, "h100-sxm-80")


def cluster(path: Path) -> object:
    """Make the topology of two nodes from the dump of their fabric and sound ones of the nodes."""
    nodes = [path.parent / f"node-{index}.topo.txt" for index in range(2)]
    for node in nodes:
        if not node.exists():
            node.write_text(dgx_table(2), encoding="utf-8")
    return assemble([path, *nodes], None, "h100-sxm-80")


def outputs(path: Path) -> object:
    """Make samples from the output of a benchmark."""
    return import_files([path], "h100-sxm-80")


READERS: dict[str, Reader] = {
    "topology": Reader("machine.yaml", load_topology, lambda: seeds.TOPOLOGIES, 2.0),
    "workload": Reader("job.yaml", load_workload, lambda: seeds.WORKLOADS, 2.0),
    "models": Reader("models.yaml", document(ModelDocument), lambda: seeds.encoded(seeds.MODEL)),
    "devices": Reader("devices.yaml", document(DeviceCatalogue), seeds.devices),
    "plan": Reader("plan.yaml", plan, seeds.plans),
    "calibration": Reader("calibration.yaml", document(Calibration), seeds.calibrations),
    "simulation": Reader("simulation.yaml", document(SimulationResult), seeds.simulated),
    "samples": Reader("samples.yaml", document(Samples), seeds.measured),
    "verification": Reader("verification.yaml", document(Verification), seeds.verified),
    "gates": Reader("gates.yaml", document(Gates), lambda: seeds.encoded(seeds.GATES)),
    "scenario": Reader("scenario.yaml", document(Scenario), lambda: seeds.encoded(seeds.SCENARIO)),
    "study": Reader("study.yaml", study, lambda: seeds.encoded(seeds.STUDY), 0.3),
    "target": Reader("target.yaml", load_target, lambda: seeds.encoded(seeds.TARGET)),
    "flows": Reader("flows.json", load_trace, seeds.flows, 2.0),
    "packed flows": Reader("flows.json.gz", load_trace, seeds.packed_flows),
    "requests": Reader("requests.csv", requests, lambda: seeds.encoded(seeds.REQUESTS)),
    "host dumps": Reader("node.txt", read_dump, seeds.host_dumps, 3.0),
    "host dumps to topology": Reader("node.txt", host, seeds.merged),
    "fabric dumps": Reader("fabric.txt", read_dump, seeds.fabric_dumps, 2.0),
    "fabric dumps to topology": Reader("fabric.txt", cluster, lambda: seeds.fabric_dumps()[-1:], 0.5),
    "exported NCCL": Reader("topo.xml", carried, seeds.exported),
    "snapshots": Reader("host.tar", read_dump, seeds.archives),
    "benchmark outputs": Reader("out.txt", read_output, seeds.outputs, 2.0),
    "imported samples": Reader("out.txt", outputs, seeds.collectives),
    "kernel tables": Reader("table.csv", read_table, seeds.tables, 1.5),
    "kernel tables in Parquet": Reader("table.parquet", read_table, seeds.parquet, 0.5),
    "operator graph": Reader("graph.json", read_operators, seeds.graphs),
    "ONNX": Reader("model.onnx", export_onnx, seeds.onnx),
    "sharding plan": Reader("plan.json", lambda path: import_plan(path, EMBEDDINGS), seeds.sharding),
    "embedding tables": Reader("tables.csv", read_tables, lambda: seeds.encoded(seeds.TABLES)),
    "model configuration": Reader("config.json", read_config, seeds.configs, 2.0),
    "manifests": Reader("manifests.yaml", manifests, lambda: seeds.encoded(seeds.MANIFESTS)),
    "measured runs": Reader("runs.csv", accuracy_of_file, seeds.runs, 0.3),
    "server's answer": Reader("answer.json", answer, lambda: seeds.encoded(seeds.ANSWER)),
    "fixed decisions": Reader("words.txt", words, lambda: seeds.encoded(*seeds.WORDS)),
}  # fmt: skip
