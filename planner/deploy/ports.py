"""Ports of processes that share a host, handed out one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.deploy.stages import FIRST_PORT
from planner.deploy.trainer import PORT


@dataclass
class Ports:
    """Ports of one purpose, counted from the first on every node."""

    first: int
    used: dict[str, int] = field(default_factory=dict)

    def take(self, node: str) -> int:
        """Return the next free port of a node."""
        self.used[node] = self.used.get(node, -1) + 1
        return self.first + self.used[node]


@dataclass
class LaunchPorts:
    """Ports of all jobs of a plan: inference servers, CPU stages, and rendezvous of process groups."""

    servers: Ports
    stages: Ports
    groups: Ports

    @classmethod
    def starting_at(cls, server: int) -> LaunchPorts:
        """Return fresh ports, those of servers counted from ``server``."""
        return cls(Ports(server), Ports(FIRST_PORT), Ports(PORT))
