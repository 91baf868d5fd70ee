"""Judge manifests that anybody wrote: rules of the API server, pods inside custom kinds, where they go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.deploy.apiserver import Checker, problems_of
from planner.deploy.apiserver.check import without_nulls
from planner.deploy.apiserver.metadata import metadata
from planner.deploy.expand import CUSTOM, pod_sets
from planner.deploy.roundtrip import Landing, land

Json = Mapping[str, Any]
CLUSTER_KINDS = frozenset(["Node", "NodeResourceTopology", "ResourceSlice", "DeviceClass", "ResourceClaim"])
"""Kinds of a dump that say what a cluster has, rather than what is asked of it."""
CLIENT = "kustomize.config.k8s.io/"
"""Group of files beside manifests that no server ever sees."""
MOST_PODS = 50_000
"""Pods that are placed one by one, at most."""


@dataclass(frozen=True)
class Judgement:
    """What is wrong with some objects, and where their pods would go; no landings without a cluster."""

    problems: tuple[str, ...]
    landings: tuple[Landing, ...]


def judge(
    objects: Sequence[Json],
    cluster: Sequence[Json] = (),
    checker: Checker | None = None,
    places: Sequence[str] = (),
) -> Judgement:
    """Judge objects.

    Parameters
    ----------
    cluster
        Nodes and what else a cluster has, beside those among the objects themselves.
    checker
        Checks the structure as well; without one, the rules of known kinds alone.
    places
        Where each object was read, for messages.
    """
    found = zip(objects, places or [""] * len(objects), strict=True)
    known = [(one, place) for one, place in found if not str(one.get("apiVersion")).startswith(CLIENT)]
    problems = [
        f"{f'{place}: ' if place else ''}{_show(one)}: {text}"
        for one, place in known
        for text in _problems(one, checker)
    ]
    if problems:
        return Judgement(tuple(dict.fromkeys(problems)), ())
    plain: list[Json] = [without_nulls(one) for one, _ in known]
    there = [*cluster, *(one for one in plain if one["kind"] in CLUSTER_KINDS)]
    if not any(one["kind"] == "Node" for one in there):
        return Judgement((), ())
    try:
        if sum(pods.count for pods in pod_sets(plain)) > MOST_PODS:
            return Judgement((f"more than {MOST_PODS:,} pods; a cluster has no room for them",), ())
        landings = land(plain, there)
    except (AttributeError, TypeError, KeyError) as error:
        lacking = f"a field of a pod is missing or has the wrong type ({error}); give schemas to see which"
        return Judgement((lacking,), ())
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
