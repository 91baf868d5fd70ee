"""Document ``scenario/1``: what goes wrong while a training job runs."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from planner.schema import Document, Record, Seconds


class Straggler(Record):
    """GPUs ``NODE/GPU`` whose passes take ``slowdown`` times as long."""

    gpus: list[str] = Field(min_length=1)
    slowdown: float = Field(ge=1.0)


class LinkFault(Record):
    """A directed link, named as in a simulation; ``share`` of its rate is left, 0 where it has failed."""

    source: str
    target: str
    share: float = Field(default=0.0, ge=0.0, lt=1.0)


class GpuFailure(Record):
    """A GPU ``NODE/GPU`` that fails ``at`` a time from the start of the job, s."""

    gpu: str
    at: Seconds


class Checkpoints(Record):
    """Saves of the job's state.

    Attributes
    ----------
    interval
        Work between two of them, s of stepping.
    write
        How long the job stands still for one, s.
    restart
        From a failure until steps run again from the last one, s.
    """

    interval: Seconds = Field(gt=0.0)
    write: Seconds
    restart: Seconds


class Scenario(Document):
    """Document ``scenario/1``; an empty one changes nothing.

    Attributes
    ----------
    jitter
        Mean of the exponential time that each rank adds to each of its passes, as a share of the pass.
    failures
        Failures at stated times; those of GPUs that the job does not use do not count.
    mean_time_between_failures
        Of any GPU of the job, s: further failures, at random (exponential).
    steps
        Optimizer steps of the job; failures need it.
    checkpoints
        Without them the job stops at its first failure.
    """

    kind: ClassVar[str] = "scenario"
    version: ClassVar[int] = 1
    name: str
    stragglers: list[Straggler] = Field(default_factory=list)
    jitter: float = Field(default=0.0, ge=0.0)
    links: list[LinkFault] = Field(default_factory=list)
    failures: list[GpuFailure] = Field(default_factory=list)
    mean_time_between_failures: Seconds | None = Field(default=None, gt=0.0)
    steps: int | None = Field(default=None, ge=1)
    checkpoints: Checkpoints | None = None
