"""A made-up kind of document that uses everything a document can use."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from planner.schema import (
    BandwidthFigure,
    Bytes,
    BytesPerSecond,
    Document,
    Fault,
    FaultError,
    LatencyFigure,
    Name,
    PerSecond,
    Ratio,
    Record,
    Seconds,
)


class Link(Record):
    source: Name
    target: Name
    bandwidth: Annotated[BytesPerSecond, Field(gt=0)]
    latency: Seconds = 0.0


class Training(Record):
    kind: Literal["training"] = "training"
    steps: int
    training: int | None = None


class Serving(Record):
    kind: Literal["serving"] = "serving"
    rate: PerSecond


class Square(Record):
    side: int
    colour: str = "red"


class Disc(Record):
    radius: float
    colour: str = "red"
    holes: tuple[int, ...] = ()


Job: TypeAlias = Annotated[Training | Serving, Field(discriminator="kind")]


class Rack(Document):
    kind: ClassVar[str] = "rack"
    version: ClassVar[int] = 3
    links: tuple[Link, ...] = ()
    jobs: list[Job] = Field(default_factory=list)
    memory: Bytes | Literal["auto"] = "auto"
    efficiency: dict[int, Ratio] = Field(default_factory=dict)
    shape: Square | Disc | str = ""
    names: frozenset[str] = frozenset()
    sizes: tuple[int, ...] = ()
    pair: tuple[int, str] | None = None
    colour: Literal["red", "green", "blue"] = "red"
    note: str | None = None
    scale: float = 1
    enabled: bool = False
    peak: BandwidthFigure | None = None
    delay: LatencyFigure = LatencyFigure.of(0.0)
    parent: Name | None = Field(default=None, alias="from")

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        known = {link.source for link in self.links}
        faults = [
            Fault(("links", number, "target"), f"no vertex {link.target!r}", "add it")
            for number, link in enumerate(self.links)
            if self.enabled and link.target not in known
        ]
        if faults:
            raise FaultError(faults)
        return self


FULL = """\
schema: rack/3
links:
- {source: a, target: b, bandwidth: 400 Gbit/s}
- source: b
  target: off
  bandwidth: 50 GB/s
  latency: 350 ns
jobs:
- kind: training
  steps: 5
- {kind: serving, rate: 5 req/s}
memory: 80 GiB
efficiency: {8: 0.5, 16: 85 %}
shape: {radius: 7}
names: [x, y]
sizes: [1, 2, 3, 4, 5]
pair: [1, one]
colour: blue
note: "a: b # c"
scale: 1e-9
peak: {value: 450 GB/s, provenance: vendor, source: sheet}
delay: 5 us
from: here
"""
