"""Filters that look at other pods: affinity, anti-affinity, and spread over domains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from planner.deploy.scheduler.cluster import Cluster, Spread
from planner.deploy.scheduler.selectors import node_matches, selects, untolerated

Object = Mapping[str, Any]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def _terms(spec: Object, kind: str) -> list[Object]:
    found = (spec.get("affinity") or {}).get(kind) or {}
    return list(found.get(REQUIRED) or ())


def _labels(thing: Object) -> Mapping[str, str]:
    return thing["metadata"].get("labels") or {}


def _namespace(pod: Object) -> str:
    return str(pod["metadata"].get("namespace") or "default")


def _meant(term: Object, owner: Object, other: Object, cluster: Cluster) -> bool:
    """Whether a term of ``owner`` means another pod: its namespace and its labels."""
    names, chosen, home = term.get("namespaces") or (), term.get("namespaceSelector"), _namespace(other)
    if chosen is None and not names:
        names = (_namespace(owner),)
    if home not in names and not selects(chosen, cluster.labels_of_namespace(home)):
        return False
    labels, mine = _labels(other), _labels(owner)
    for key in term.get("matchLabelKeys") or ():
        if key in mine and labels.get(key) != mine[key]:
            return False
    for key in term.get("mismatchLabelKeys") or ():
        if key in mine and labels.get(key) == mine[key]:
            return False
    return selects(term.get("labelSelector"), labels)


def affinity_misfit(pod: Object, node: Object, cluster: Cluster) -> str | None:
    """Return which rule between pods keeps a pod off a node, ``None`` where none does."""
    labels = _labels(node)
    if "affinity" not in pod["spec"] and not cluster.repelling_keys:
        return None
    for term in _terms(pod["spec"], "podAffinity"):
        if not _affinity_holds(term, pod, labels, cluster):
            return "node(s) didn't match pod affinity rules"
    for term in _terms(pod["spec"], "podAntiAffinity"):
        key = term["topologyKey"]
        if key in labels and _neighbour(term, pod, labels[key], cluster):
            return "node(s) didn't match pod anti-affinity rules"
    for key in cluster.repelling_keys & labels.keys():
        for other in cluster.pods_in(key, labels[key]):
            for term in _terms(other["spec"], "podAntiAffinity"):
                if term["topologyKey"] == key and _meant(term, other, pod, cluster):
                    return "node(s) didn't satisfy existing pods anti-affinity rules"
    return None


def _affinity_holds(term: Object, pod: Object, labels: Mapping[str, str], cluster: Cluster) -> bool:
    """Whether a pod meant by the term runs in the node's domain, or the pod itself is to be the first."""
    key = term["topologyKey"]
    if key not in labels:
        return False
    if _neighbour(term, pod, labels[key], cluster):
        return True
    terms = _terms(pod["spec"], "podAffinity")
    alone = not any(
        _meant(one, pod, other, cluster)
        for one in terms
        for other in cluster.pods_like(one.get("labelSelector"))
    )
    return alone and all(_meant(one, pod, pod, cluster) for one in terms)


def _neighbour(term: Object, pod: Object, domain: str, cluster: Cluster) -> bool:
    """Whether a pod meant by a term runs in a domain."""
    inside, like = cluster.pods_in(term["topologyKey"], domain), cluster.pods_like(term.get("labelSelector"))
    if len(inside) <= len(like):
        return any(_meant(term, pod, other, cluster) for other in inside)
    return any(
        cluster.home(other).get(term["topologyKey"]) == domain and _meant(term, pod, other, cluster)
        for other in like
    )


def spread_misfit(pod: Object, node: Object, cluster: Cluster) -> str | None:
    """Return whether a spread constraint keeps a pod off a node."""
    stated = pod["spec"].get("topologySpreadConstraints")
    if not stated:
        return None
    constraints = [one for one in stated if one.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"]
    labels = _labels(node)
    keys = [one["topologyKey"] for one in constraints]
    if any(key not in labels for key in keys):
        return "node(s) didn't match pod topology spread constraints (missing required label)"
    for constraint in constraints:
        spread = _spread(constraint, pod, keys, cluster)
        counts, least = spread.counts, spread.least
        if constraint.get("minDomains", 1) > len(counts):
            least = 0
        own = 1 if _spread_means(constraint, pod, pod) else 0
        if counts.get(labels[constraint["topologyKey"]], 0) + own - least > constraint["maxSkew"]:
            return "node(s) didn't match pod topology spread constraints"
    return None


def _spread(constraint: Object, pod: Object, keys: list[str], cluster: Cluster) -> Spread:
    """Return the pods that a constraint counts, by domain of the nodes that take part."""
    if (
        id(constraint) in cluster.spread_counts
    ):  # which holds the constraint, so that no other has its identity
        return cluster.spread_counts[id(constraint)]
    key = constraint["topologyKey"]
    domains = cluster.domains((*(one for one in keys if one != key), key))
    if constraint.get("nodeAffinityPolicy", "Honor") == "Honor":
        domains = _kept(domains, lambda node: node_matches(pod["spec"], node), cluster)
    if constraint.get("nodeTaintsPolicy", "Ignore") == "Honor":
        domains = _kept(domains, lambda node: untolerated(pod["spec"], node) is None, cluster)
    counts = dict.fromkeys(domains, 0)
    for other in cluster.pods_like(constraint.get("labelSelector")):
        value = cluster.home(other).get(key)
        if value in domains and other["spec"]["nodeName"] in domains[value]:
            counts[value] += _spread_means(constraint, pod, other)
    found = Spread(constraint, pod, counts, min(counts.values(), default=0))
    cluster.spread_counts[id(constraint)] = found
    return found


def bind(pod: Object, node: str, devices: Iterable[str], cluster: Cluster) -> None:
    """Put a pod on a node with the devices of its claims, as a scheduler does once it has decided."""
    cluster.bind(pod, node, devices)
    labels = _labels(cluster.nodes[node])
    for one in cluster.spread_counts.values():
        value = labels.get(one.constraint["topologyKey"])
        if value in one.counts and _spread_means(one.constraint, one.pod, pod):
            one.counts[value] += 1
            if one.counts[value] == one.least + 1:
                one.least = min(one.counts.values())


def _kept(
    domains: Mapping[str, frozenset[str]], keep: Callable[[Object], bool], cluster: Cluster
) -> dict[str, frozenset[str]]:
    """Return the domains with the nodes that take part, without those that have none."""
    left = {
        value: frozenset(name for name in names if keep(cluster.nodes[name]))
        for value, names in domains.items()
    }
    return {value: names for value, names in left.items() if names}


def _spread_means(constraint: Object, pod: Object, other: Object) -> bool:
    if _namespace(other) != _namespace(pod) or other["metadata"].get("deletionTimestamp"):
        return False
    labels, mine = _labels(other), _labels(pod)
    for key in constraint.get("matchLabelKeys") or ():
        if key in mine and labels.get(key) != mine[key]:
            return False
    return selects(constraint.get("labelSelector"), labels)
