"""An extender of the scheduler: pods of a plan stay on nodes whose GPUs share NVLink with the planned ones.

The messages are those of ``k8s.io/kube-scheduler/extender/v1``: ExtenderArgs in, ExtenderFilterResult and
HostPriorityList out; names of fields are taken in any case, as Go decodes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from planner.deploy.agent.server import Answer, RequestError, Route
from planner.deploy.domains import domains
from planner.deploy.names import dns_label
from planner.deploy.shares import host_name
from planner.placement.plan import Plan
from planner.topology.cluster import Topology

HIGHEST = 10
"""Best score that an extender gives (MaxExtenderPriority)."""
MOST_NODES = 20_000
_PART = "app.kubernetes.io/part-of"


@dataclass(frozen=True)
class Rules:
    """Where the pods of each job may go.

    Attributes
    ----------
    planned
        Hosts of the plan by job, as named in the pods' label ``app.kubernetes.io/part-of``.
    group
        NVLink group of every host of the cluster; hosts without NVLink to others are their own group.
    """

    planned: Mapping[str, frozenset[str]]
    group: Mapping[str, str]

    def why_not(self, job: str, host: str) -> str | None:
        """Return why a host is not for a job, ``None`` where it is."""
        hosts = self.planned.get(job)
        if hosts is None:
            return None
        wanted = sorted({self.group[one] for one in hosts})
        if self.group.get(host) in wanted:
            return None
        own = self.group.get(host, "unknown")
        return f"NVLink group {own!r} is not that of the plan ({', '.join(wanted[:4])})"

    def score(self, job: str, host: str) -> int:
        """Return the score of a host: planned ones first, then those of their group."""
        hosts = self.planned.get(job, frozenset())
        if host in hosts:
            return HIGHEST
        return HIGHEST // 2 if hosts and self.why_not(job, host) is None else 0


def rules(plan: Plan, topology: Topology) -> Rules:
    """Return the rules of a plan."""
    joined = domains(topology).accelerator
    hosts = {node.name: host_name(node) for node in topology.nodes}
    planned = {
        dns_label(job.name): frozenset(hosts[gpu.partition("/")[0]] for gpu in job.gpus())
        for job in plan.jobs
    }
    return Rules(planned, {host: joined.get(name, host) for name, host in hosts.items()})


def routes(found: Rules) -> Mapping[tuple[str, str], Route]:
    """Return the routes of the extender."""
    return {
        ("POST", "/filter"): lambda body: _json(filtered(found, _arguments(body))),
        ("POST", "/prioritize"): lambda body: _json(prioritized(found, _arguments(body))),
        ("GET", "/healthz"): lambda _: Answer(b"ok\n", kind="text/plain"),
        ("GET", "/ready"): lambda _: Answer(b"ok\n", kind="text/plain"),
    }


@dataclass(frozen=True)
class Arguments:
    """What a scheduler asks: job of the pod, names of the nodes, and the nodes where it sends them whole."""

    job: str
    names: tuple[str, ...]
    nodes: tuple[Mapping[str, Any], ...] | None


def _arguments(body: bytes) -> Arguments:
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(HTTPStatus.BAD_REQUEST, "the body is no JSON") from None
    pod = _field(whole, "pod")
    labels = _field(_field(pod, "metadata"), "labels") if pod is not None else None
    if pod is None or (labels is not None and not isinstance(labels, dict)):
        raise RequestError(HTTPStatus.BAD_REQUEST, "ExtenderArgs without a pod")
    job = str((labels or {}).get(_PART, ""))
    names, listed = _field(whole, "nodenames"), _field(_field(whole, "nodes"), "items")
    if isinstance(names, list) and all(isinstance(one, str) for one in names):
        return _bounded(Arguments(job, tuple(names), None))
    if isinstance(listed, list):
        found = [_field(_field(one, "metadata"), "name") for one in listed]
        if all(isinstance(one, str) for one in found):
            return _bounded(Arguments(job, tuple(found), tuple(listed)))
    raise RequestError(HTTPStatus.BAD_REQUEST, "ExtenderArgs without NodeNames or Nodes")


def _bounded(arguments: Arguments) -> Arguments:
    if len(arguments.names) > MOST_NODES:
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MOST_NODES} nodes are looked at")
    return arguments


def _field(value: Any, name: str) -> Any:
    """Return a field of an object, its name in any case; ``None`` where it or the object is missing."""
    if not isinstance(value, dict):
        return None
    return next((item for key, item in value.items() if key.lower() == name), None)


def filtered(found: Rules, asked: Arguments) -> dict[str, Any]:
    """Return the nodes that a pod may go to (ExtenderFilterResult), and why not to the others."""
    reasons = {name: found.why_not(asked.job, name) for name in asked.names}
    failed = {name: reason for name, reason in reasons.items() if reason is not None}
    passed = [name for name in asked.names if name not in failed]
    answer: dict[str, Any] = {"FailedNodes": failed, "FailedAndUnresolvableNodes": {}, "Error": ""}
    if asked.nodes is None:
        return {"NodeNames": passed, "Nodes": None, **answer}
    kept = [node for name, node in zip(asked.names, asked.nodes, strict=True) if name not in failed]
    return {"Nodes": {"apiVersion": "v1", "kind": "NodeList", "items": kept}, "NodeNames": None, **answer}


def prioritized(found: Rules, asked: Arguments) -> list[dict[str, Any]]:
    """Return the score of every node (HostPriorityList)."""
    return [{"Host": name, "Score": found.score(asked.job, name)} for name in asked.names]


def _json(value: Any) -> Answer:
    return Answer(json.dumps(value).encode())
