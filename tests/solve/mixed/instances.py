"""Random small clusters of two device models and training jobs for them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from planner.costs import load_calibration
from planner.placement.mixed import MixedTrainingProblem, make_mixed_problem
from planner.schema import BandwidthFigure, BytesFigure, FlopsFigure, LatencyFigure
from planner.topology import Device, Fabric, FabricLayout, Machine, NodeGroup, TopologyDocument, resolve
from planner.workload import Degrees, ModelReference, TrainingJob, Transformer
from tests.laws.instances import GB, Box, MachineCase, machine_of


def machine(device: str, gpus: int, nvlink: float, port: float) -> Machine:
    """Return a machine with some GPUs of a model on one switch."""
    box = Box((gpus,), nvlink, pcie=20.0, port=port)
    return machine_of(f"box-{device}", box, MachineCase((box,), memory=0.0), device)


def small_problem(
    job: TrainingJob, counts: tuple[int, int], speeds: tuple[float, float], memory: tuple[float, float]
) -> MixedTrainingProblem:
    """Return the problem of a job on one node of each of two models."""
    devices = [
        Device(
            name=name, architecture="none", peak={"bf16": FlopsFigure.of(speed * 1e14)},
            memory=BytesFigure.of(size * GB), memory_bandwidth=BandwidthFigure.of(1000 * speed * GB),
        )
        for name, speed, size in zip(("slow", "fast"), speeds, memory, strict=True)
    ]  # fmt: skip
    document = TopologyDocument(
        schema_="topology/1", name="small", devices=devices,
        machines=[machine("slow", counts[0], 100.0, 5.0), machine("fast", counts[1], 300.0, 20.0)],
        nodes=[
            NodeGroup(name="a", machine="box-slow"),
            NodeGroup(name="b", machine="box-fast"),
        ],
        fabric=Fabric(layout=FabricLayout(shape="single-switch", hop_latency=LatencyFigure.of(1e-6))),
    )  # fmt: skip
    assert job.model.dims is not None
    return make_mixed_problem(job, job.model.dims, resolve(document), load_calibration())


@dataclass(frozen=True)
class Case:
    """A job on one node of each of two models: GPUs per node, speeds, memory, GB."""

    job: TrainingJob
    counts: tuple[int, int]
    speeds: tuple[float, float]
    memory: tuple[float, float]

    @property
    def problem(self) -> MixedTrainingProblem:
        """The problem of the case."""
        return small_problem(self.job, self.counts, self.speeds, self.memory)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a problem whose whole space brute force can walk."""
    model = Transformer(
        name="tiny", layers=draw(st.integers(2, 4)), hidden=1024, ffn=draw(st.sampled_from([2048, 8192])),
        heads=8, kv_heads=4, head_dim=128, vocab=draw(st.sampled_from([1024, 65536])),
    )  # fmt: skip
    degrees = Degrees(
        tp=[1, 2], pp=[1, 2, 3], dp=[1, 2], cp=[1], ep=[1], virtual=[1],
        micro_batch=draw(st.sampled_from([[1], [2]])), recompute=[draw(st.sampled_from(["none", "full"]))],
        sharding=["none", draw(st.sampled_from(["optimizer", "parameters"]))],
    )  # fmt: skip
    job = TrainingJob(
        kind="training", name="job", model=ModelReference(dims=model), sequence=2048,
        global_batch=4, degrees=degrees,
    )  # fmt: skip
    return Case(
        job,
        draw(st.sampled_from([(1, 1), (2, 1), (1, 2)])),
        draw(st.sampled_from([(1.0, 2.0), (1.0, 3.2), (1.0, 1.3)])),
        draw(st.sampled_from([(30.0, 30.0), (4.0, 8.0), (8.0, 4.0), (12.0, 12.0)])),
    )
