"""Flow traces on disk: JSON of format ``flow-oracle/1``, plain or gzip-compressed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.errors import DocumentError, Problem
from planner.schema.foreign import read_foreign_json
from planner.simulate.links import FlowTrace, LinkSpec, TracedFlow

LARGEST_TRACE = 256 * 2**20
"""Bytes of the largest trace that is read, unpacked."""
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a trace also says how it was made

    id: int


class _Link(_Part):
    src: str
    dst: str
    bandwidth_Bps: _Positive  # noqa: N815 - the format's own spelling
    latency_s: _NotNegative = 0.0


class _Flow(_Part):
    size_B: _NotNegative  # noqa: N815 - the format's own spelling
    path: tuple[int, ...]
    start_s: _NotNegative = 0.0
    delay_s: _NotNegative = 0.0
    deps: tuple[int, ...] = ()
    finish_s: _NotNegative | None = None


class _Trace(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["flow-oracle/1"]
    name: str = ""
    links: tuple[_Link, ...]
    flows: tuple[_Flow, ...]


def load_trace(path: str | Path) -> FlowTrace:
    """Read a flow trace.

    Raises
    ------
    DocumentError
        If the file is not a flow trace; it lists everything wrong.
    """
    path = Path(path)
    text = _read(path)
    try:
        trace = _Trace.model_validate_json(text)
    except ValidationError as error:
        _refuse_other_than_json(path, text)
        problems = [_problem(path, _dotted(item["loc"]), item["msg"]) for item in error.errors()]
        raise DocumentError(problems) from None
    problems = _dangling(path, trace)
    if problems:
        raise DocumentError(problems)
    links = tuple(_link_spec(link) for link in trace.links)
    return FlowTrace(trace.name or path.name, links, tuple(_traced(flow) for flow in trace.flows))


def _refuse_other_than_json(path: Path, text: str) -> None:
    read_foreign_json(text, str(path))


def _read(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            data = stream.read(LARGEST_TRACE + 1)
        if len(data) > LARGEST_TRACE:
            raise DocumentError([_problem(path, "", f"larger than {LARGEST_TRACE // 2**20} MiB")])
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise DocumentError([_problem(path, "", f"cannot be read: {error}")]) from None
    except UnicodeDecodeError as error:
        raise DocumentError([_problem(path, "", f"not UTF-8 text: {error.reason}")]) from None


def _dangling(path: Path, trace: _Trace) -> list[Problem]:
    """Return what is wrong with the numbers of links and flows."""
    problems = []
    numbered: dict[str, Sequence[_Part]] = {"links": trace.links, "flows": trace.flows}
    for kind, parts in numbered.items():
        for place, part in enumerate(parts):
            if part.id != place:
                text = f"is {part.id}, but the part at place {place} must have id {place}"
                problems.append(_problem(path, f"{kind}.{place}.id", text))
    for place, flow in enumerate(trace.flows):
        for link in flow.path:
            if not 0 <= link < len(trace.links):
                problems.append(_problem(path, f"flows.{place}.path", f"there is no link {link}"))
        for other in flow.deps:
            if not 0 <= other < len(trace.flows):
                problems.append(_problem(path, f"flows.{place}.deps", f"there is no flow {other}"))
    return problems


def _link_spec(link: _Link) -> LinkSpec:
    return LinkSpec(f"{link.id}:{link.src}->{link.dst}", link.bandwidth_Bps, link.latency_s)


def _traced(flow: _Flow) -> TracedFlow:
    return TracedFlow(flow.start_s, flow.delay_s, flow.size_B, flow.path, flow.deps, flow.finish_s)


def _problem(path: Path, where: str, text: str) -> Problem:
    return Problem(str(path), 0, 0, where, text)


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)
