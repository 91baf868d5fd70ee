"""Judge manifests that anybody wrote: rules of the API server, pods inside custom kinds, where they go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.deploy.apiserver import Checker, problems_of
from planner.deploy.apiserver.check import without_nulls
from planner.deploy.apiserver.metadata import metadata
from planner.deploy.expand import pod_sets
from planner.deploy.roundtrip import Landing, land

Json = Mapping[str, Any]
CLUSTER_KINDS = frozenset(["Node", "NodeResourceTopology", "ResourceSlice", "DeviceClass", "ResourceClaim"])
"""Kinds of a dump that say what a cluster has, rather than what is asked of it."""
CUSTOM = frozenset(["LeaderWorkerSet", "JobSet"])


@dataclass(frozen=True)
class Judgement:
    """What is wrong with some objects, and where their pods would go; no landings without a cluster."""

    problems: tuple[str, ...]
    landings: tuple[Landing, ...]


def judge(objects: Sequence[Json], cluster: Sequence[Json] = (), checker: Checker | None = None) -> Judgement:
    """Judge objects.

    Parameters
    ----------
    cluster
        Nodes and what else a cluster has, beside those among the objects themselves.
    checker
        Checks the structure as well; without one, the rules of known kinds alone.
    """
    problems = [f"{_show(one)}: {text}" for one in objects for text in _problems(one, checker)]
    if problems:
        return Judgement(tuple(problems), ())
    plain: list[Json] = [without_nulls(one) for one in objects]
    there = [*cluster, *(one for one in plain if one["kind"] in CLUSTER_KINDS)]
    if not any(one["kind"] == "Node" for one in there):
        return Judgement((), ())
    landings = land(plain, there)
    lost = {
        f"{one.pods.owner}: stays unscheduled: {one.reason}": None for one in landings if one.node is None
    }
    return Judgement(tuple(lost), tuple(landings))


def _problems(one: Json, checker: Checker | None) -> Iterator[str]:
    if checker is not None:
        yield from checker.problems(one)
    else:
        wrong = _shape(one)
        if wrong:
            yield wrong
            return
        yield from metadata(one)
        yield from problems_of(one)
    if one["kind"] in CUSTOM:
        yield from _inside(one)


def _shape(one: Json) -> str:
    """Return what keeps an object from being looked at without its schema."""
    try:
        list(metadata(one))
        problems_of(one)
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        return f"a field has the wrong type ({error}); give schemas to see which"
    return ""


def _inside(one: Json) -> Iterator[str]:
    """Yield what is wrong with the pods inside a custom kind, which the API server takes as they are."""
    try:
        for pods in pod_sets([without_nulls(one)]):
            pod = {**pods.pod, "metadata": {"name": "pod", "labels": pods.pod["metadata"].get("labels")}}
            yield from (f"pod: {text}" for text in (*metadata(pod), *problems_of(pod)))
    except (AttributeError, TypeError, KeyError) as error:
        yield f"the pods inside cannot be read: {error}"


def _show(one: Json) -> str:
    meta = one.get("metadata")
    name = meta.get("name", "?") if isinstance(meta, Mapping) else "?"
    return f"{one.get('kind')} {name}"
