"""The part of a plan that places an operator graph."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.placement.records import Binding, StageMemory
from planner.schema import Name, Record, Seconds, expand

PartName = Literal["compute", "transfers in", "transfers out", "gradients"]


class OperatorStage(Record):
    """What one device, or several that take turns, runs for every sample.

    Attributes
    ----------
    devices
        GPUs ``NODE/GPU`` that each hold the stage and take samples in turn; empty on the host.
    operators
        Their names.
    load
        Time that one sample keeps the device busy that takes it, by part; of several devices each takes one
        sample in as many.
    """

    devices: list[str]
    operators: list[str]
    load: dict[PartName, Seconds]

    @property
    def on_host(self) -> bool:
        """Whether the host runs it."""
        return not self.devices

    @property
    def seconds(self) -> float:
        """Time of a sample on the device that takes it, s."""
        return sum(self.load.values())

    @property
    def interval(self) -> float:
        """Time between samples that its devices together keep up with, s."""
        return self.seconds / max(1, len(self.devices))


class OperatorMove(Record):
    """An output that leaves its device, and the time that one move between a device and the host takes."""

    operator: str
    source: int
    targets: list[int]
    seconds: Seconds


class OperatorsPrediction(Record):
    """Predicted times, s.

    Attributes
    ----------
    interval
        Time between samples in a full pipeline: what the busiest device, or link, takes for each.
    latency
        Finish time of one sample, ``None`` where stages wait for one another.
    breakdown
        Of the busiest device (throughput), or of all devices together (latency).
    """

    interval: Seconds
    latency: Seconds | None
    samples_per_second: float
    breakdown: dict[str, Seconds]


class OperatorsPlan(Record):
    """Placement of an operator graph: stages are accelerators in order, the host last.

    Attributes
    ----------
    host
        Node whose processor runs what no accelerator does.
    """

    kind: Literal["operators"] = "operators"
    name: Name
    model: str
    objective: Literal["throughput", "latency"]
    contiguous: bool
    host: str
    stages: list[OperatorStage]
    moves: list[OperatorMove] = Field(default_factory=list)
    bindings: list[Binding] = Field(default_factory=list)
    memory: list[StageMemory] = Field(default_factory=list)
    prediction: OperatorsPrediction

    def gpus(self) -> list[str]:
        """Return the GPUs of all stages."""
        return [name for stage in self.stages for item in stage.devices for name in expand(item)]
