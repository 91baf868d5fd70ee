"""What a job moves, and its class, follow from the numbers of the document and the machine."""

from __future__ import annotations

import pytest

from planner.costs import load_calibration
from planner.costs.inventory import Flow, classify, flows, host_path, latency_bound
from planner.topology import load_topology
from planner.workload import load_workload
from planner.workload.tables import RecommenderJob

CALIBRATION = load_calibration()


def found(name: str) -> dict[str, Flow]:
    """Return the flows of the first job of a shipped workload by name."""
    return {flow.name: flow for flow in flows(load_workload(name).jobs[0], CALIBRATION)}


def bound(machine: str) -> float:
    """Return the bytes below which a copy is nearly all latency on a shipped machine."""
    path = host_path(load_topology(machine).machine_types[0])
    assert path is not None
    return latency_bound(path, CALIBRATION)


@pytest.mark.parametrize("machine", ["riscv-sg2044-pcie5", "riscv-nvlink-fusion", "dgx-h100", "gh200-dual"])
def test_a_picture_is_a_stream_and_tokens_are_control_on_every_host(machine: str) -> None:
    """2.4 MB of pixels take a while to move on any host link; 480 bytes of tokens do not."""
    seen, small = found("multimodal-serving"), bound(machine)
    assert classify(seen["jpeg-decode → model"], small) == "streaming tensor"
    assert classify(seen["model → detokenise"], small) == "control"
    assert classify(seen["tokenise → jpeg-decode"], small) == "control"


def test_the_bound_is_a_tenth_of_latency_times_rate() -> None:
    """As many bytes move in a tenth of the time that a copy takes to start; a faster link moves more."""
    path = host_path(load_topology("dgx-h100").machine_types[0])
    assert path is not None
    start = CALIBRATION.number("host_latency") + path.inwards.latency
    assert bound("dgx-h100") / path.inwards.rate == pytest.approx(start / 10.0)
    edge = Flow("job", "edge", "host link", bound("dgx-h100") * 1.01, "request")
    assert classify(edge, bound("dgx-h100")) == "streaming tensor"
    assert classify(edge, bound("gh200-dual")) == "control"


def test_rows_of_tables_are_random_and_sparse() -> None:
    """An iteration touches pooling rows per sample of the largest table, each a piece of its own."""
    resolved = load_workload("dlrm-criteo-like").jobs[0]
    job, tables = resolved.job, resolved.model
    assert isinstance(job, RecommenderJob)
    assert isinstance(tables, tuple)
    flow = next(flow for flow in found("dlrm-criteo-like").values() if flow.grain is not None)
    assert classify(flow, bound("dgx-h100")) == classify(flow, None) == "random sparse"
    largest = max(tables, key=lambda table: table.size)
    row = largest.dim * largest.element
    touched = min(job.global_batch * largest.pooling * row, largest.size)
    assert (flow.size, flow.grain, flow.touched) == (largest.size, row, touched)
    assert flow.access().share == touched / largest.size


def test_training_states_are_sixteen_bytes_a_parameter() -> None:
    """Weights are read at their own width; what decides about dividing is all that is kept."""
    flow = found("llama3-70b-training")["weights and optimizer states"]
    assert flow.total == 8.0 * flow.size
    assert found("llama3-70b-training")["gradients"].size == flow.size


def test_weights_that_exceed_a_gpu_are_those_of_the_larger_model() -> None:
    """The weights of the 70B model in bf16 take about 141 GB."""
    assert found("llama3-70b-serving")["weights"].size == pytest.approx(141e9, rel=0.01)
