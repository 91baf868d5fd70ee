"""Stages that run on host cores."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.schema import Bytes, Name, Ratio, Record, Seconds

Access = Literal["streaming", "random", "control"]


class CpuStage(Record):
    """A stage that runs on host cores, before or after the model.

    Attributes
    ----------
    work
        Core time per request on the reference core (core_speed 1.0, 512-bit vectors), s.
    vector_share
        Share of that time that scales with the width of the vector unit, 0 to 1.
    bytes_in, bytes_out
        Bytes read from the stage before and handed on per request.
    traffic_bytes
        Bytes of host memory traffic per request; ``bytes_in + bytes_out`` when absent.
    memory
        Resident bytes per worker.
    parallel
        Cores that one request can use at once.
    access
        Pattern in which the GPU, or the next stage, reads what this stage hands on.
    """

    name: Name
    work: Seconds = Field(gt=0)
    vector_share: Ratio = Field(default=0.0, ge=0, le=1)
    bytes_in: Bytes = 0.0
    bytes_out: Bytes = 0.0
    traffic_bytes: Bytes | None = None
    memory: Bytes = 0.0
    parallel: int = Field(default=1, ge=1)
    access: Access = "streaming"
