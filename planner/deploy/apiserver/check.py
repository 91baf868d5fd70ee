"""The whole check of one document: served, well formed, and by the rules of its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from planner.deploy.apiserver import access, autoscaling, claims, jobs, networking, others, workloads
from planner.deploy.apiserver.expressions import defaulted, rule_problems
from planner.deploy.apiserver.metadata import metadata
from planner.deploy.apiserver.schemas import Kind, Schemas
from planner.deploy.apiserver.structure import Structure

Json = Mapping[str, Any]
Rule = Callable[[Json], Iterator[str]]
RULES: Mapping[str, Rule] = {
    **workloads.RULES, **autoscaling.RULES, **jobs.RULES, **networking.RULES, **claims.RULES,
    **access.RULES, **others.RULES,
}  # fmt: skip
"""Rules of built-in kinds by ``group/Kind``; they hold in every version of a kind."""


class Checker:
    """Decides what an API server that serves some kinds would say to new objects.

    Parameters
    ----------
    schemas
        The kinds that it serves.
    """

    def __init__(self, schemas: Schemas) -> None:
        self.schemas = schemas

    def problems(self, document: Json) -> list[str]:
        """Return why the server refuses a document; nothing where it takes it."""
        kind = self.schemas.of(document)
        if kind is None:
            what = f"{document.get('kind')} of {document.get('apiVersion')}"
            return [f"no {what} is served by Kubernetes {self.schemas.release} with the custom kinds given"]
        found = list(Structure(kind.schema, kind.definitions, custom=kind.custom).problems(document))
        if found:
            return found
        found = list(metadata(document, kind.namespaced))
        return found + (_custom(document, kind) if kind.custom else problems_of(document))


def problems_of(document: Json) -> list[str]:
    """Return what breaks the rules of a built-in kind, for a document whose structure is right."""
    group = str(document.get("apiVersion", "")).rpartition("/")[0]
    rule = RULES.get(f"{group}/{document.get('kind')}")
    return list(rule(without_nulls(document))) if rule else []


def without_nulls(value: Any) -> Any:
    """Return a value without fields that are null, which decode as if they were not there."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _custom(document: Json, kind: Kind) -> list[str]:
    """Return broken rules of a custom kind, and a count of replicas that its scale could not show."""
    whole = defaulted(document, kind.schema)
    found = list(rule_problems(whole, kind.schema))
    spec = whole.get("spec")
    replicas = spec.get("replicas") if isinstance(spec, Mapping) else None
    if isinstance(replicas, int) and replicas < 0:
        found.append(f"spec.replicas: {replicas} is below zero")
    return found
