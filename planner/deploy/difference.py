"""Which pods a new plan restarts, and which it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.deploy.expand import PodSet, pod_sets

Json = Mapping[str, Any]
_RECREATED = ("JobSet", "Job")
"""Kinds whose pod templates cannot be changed: they are deleted and made anew."""


@dataclass(frozen=True)
class Change:
    """What happens to the pods of an owner: ``start``, ``stop`` or ``restart``, how many, and why."""

    owner: str
    action: str
    pods: int
    reason: str


def changes(old: Sequence[Json], new: Sequence[Json]) -> list[Change]:
    """Return what happens to pods when the objects of one bundle give way to those of another."""
    before, after = _sets(old), _sets(new)
    parts = _parts(old), _parts(new)
    found = [
        Change(owner, "stop", _count(sets), "the new plan has no such object")
        for owner, sets in before.items()
        if owner not in after
    ]
    for owner, sets in after.items():
        if owner not in before:
            found.append(Change(owner, "start", _count(sets), "the old plan had no such object"))
        else:
            found += _changed(owner, before[owner], sets, parts)
    return sorted(found, key=lambda change: (change.owner, change.action))


def _sets(objects: Sequence[Json]) -> dict[str, list[PodSet]]:
    found: dict[str, list[PodSet]] = {}
    for pods in pod_sets(objects):
        found.setdefault(" ".join(pods.owner.split()[:2]), []).append(pods)
    return found


def _parts(objects: Sequence[Json]) -> dict[tuple[str, str], Any]:
    """Return what pods read when they start, by kind and name."""
    return {
        (item["kind"], item["metadata"]["name"]): {
            key: item.get(key) for key in ("data", "binaryData", "spec")
        }
        for item in objects
        if item["kind"] in ("ConfigMap", "Secret", "ResourceClaimTemplate", "ComputeDomain")
    }


def _count(sets: Sequence[PodSet]) -> int:
    return sum(pods.count for pods in sets)


def _changed(
    owner: str,
    before: Sequence[PodSet],
    after: Sequence[PodSet],
    parts: tuple[Mapping[tuple[str, str], Any], Mapping[tuple[str, str], Any]],
) -> Iterator[Change]:
    old, new = _count(before), _count(after)
    reason = next(_reasons(before, after, parts), "")
    if not reason and old != new and owner.split()[0] in _RECREATED:
        reason = f"{new} pods instead of {old}, and the object cannot be changed in place"
    if reason:
        yield Change(owner, "restart", min(old, new), reason)
    if old != new:
        yield Change(owner, "start" if new > old else "stop", abs(new - old), f"{new} pods instead of {old}")


def _reasons(
    before: Sequence[PodSet],
    after: Sequence[PodSet],
    parts: tuple[Mapping[tuple[str, str], Any], Mapping[tuple[str, str], Any]],
) -> Iterator[str]:
    if len(before) != len(after):
        yield "the groups of its pods differ"
    for one, other in zip(before, after, strict=False):
        changed = [
            key
            for key in {**one.pod["spec"], **other.pod["spec"]}
            if one.pod["spec"].get(key) != other.pod["spec"].get(key)
        ]
        if changed:
            yield f"the pod's {', '.join(sorted(changed))} differ"
        if one.pod["metadata"] != other.pod["metadata"]:
            yield "the pod's labels or annotations differ"
        for key in _read(other.pod["spec"]):
            if parts[0].get(key) != parts[1].get(key):
                yield f"{key[0]} {key[1]}, which it reads when it starts, differs"


def _read(spec: Json) -> Iterator[tuple[str, str]]:
    for volume in spec.get("volumes") or ():
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"].get("name", "")
    for claim in spec.get("resourceClaims") or ():
        yield "ResourceClaimTemplate", claim.get("resourceClaimTemplateName", "")
