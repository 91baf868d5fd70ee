"""Ports of processes that share a host, handed out one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.deploy.stages import FIRST_PORT
from planner.deploy.trainer import PORT

CACHE_PORT = 5600
"""First port on which servers tell one another where caches are: that of vLLM, one for each rank."""


@dataclass
class Ports:
    """Ports of one purpose, counted from the first on every node."""

    first: int
    used: dict[str, int] = field(default_factory=dict)

    def take(self, node: str, count: int = 1) -> int:
        """Return the next free port of a node, the first of ``count`` in a row."""
        place = self.used.get(node, -1) + 1
        self.used[node] = place + count - 1
        return self.first + place


@dataclass
class LaunchPorts:
    """Ports of all jobs of a plan: servers, CPU stages, rendezvous of process groups, moved caches."""

    servers: Ports
    stages: Ports
    groups: Ports
    caches: Ports

    @classmethod
    def starting_at(cls, server: int) -> LaunchPorts:
        """Return fresh ports, those of servers counted from ``server``."""
        return cls(Ports(server), Ports(FIRST_PORT), Ports(PORT), Ports(CACHE_PORT))
