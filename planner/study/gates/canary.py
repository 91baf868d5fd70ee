"""A canary beside what runs already: their pods, their nodes, and whether the nodes are of one kind."""

from __future__ import annotations

from pydantic import Field

from planner.schema import Record
from planner.study.gates.prometheus import Prometheus

NODES = "planner_node_info"
"""Series of ``planner agent``: one a node, with the digest of the machine that it found."""


class Canary(Record):
    """Which series belong to the new version and which to the old.

    Attributes
    ----------
    pods, against
        Label matchers of PromQL of the pods of each, such as ``pod=~"chat-canary-.*"``.
    nodes, against_nodes
        Label matchers of the agent's series on their nodes; found by ``kube_pod_info`` where absent.
    """

    pods: str = Field(min_length=1)
    against: str = Field(min_length=1)
    nodes: str | None = None
    against_nodes: str | None = None

    def topologies(self, server: Prometheus) -> tuple[set[str], set[str]]:
        """Return the digests of the machines under the new and under the old version."""
        return (
            server.labels(_expression(self.pods, self.nodes), "topology"),
            server.labels(_expression(self.against, self.against_nodes), "topology"),
        )


def _expression(pods: str, nodes: str | None) -> str:
    if nodes is not None:
        return f"count by (topology) ({NODES}{{{nodes}}})"
    return f"count by (topology) ({NODES} and on (node) kube_pod_info{{{pods}}})"
