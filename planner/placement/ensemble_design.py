"""Every decision about an ensemble, as the judge and the solver see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.costs import MemoryMode

Key = tuple[int, int]
"""A stage and a class."""


@dataclass(frozen=True)
class Tenant:
    """An instance of a stage for some classes, with its settings.

    Attributes
    ----------
    batch, window
        Units at which a batch is complete, and the longest wait of its first request, s.
    high
        Whether its stream has high priority.
    """

    stage: int
    classes: tuple[int, ...]
    batch: int
    window: float
    high: bool = False

    @property
    def keys(self) -> tuple[Key, ...]:
        """What it serves."""
        return tuple((self.stage, request) for request in self.classes)


@dataclass(frozen=True)
class Group:
    """Equal units (GPUs or slices) with the same tenants.

    Attributes
    ----------
    profile
        MIG profile of the units; ``None`` for whole GPUs.
    units
        Units in every domain.
    """

    tenants: tuple[Tenant, ...]
    profile: str | None
    units: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of units."""
        return sum(self.units)

    @property
    def keys(self) -> tuple[Key, ...]:
        """What its tenants serve."""
        return tuple(key for tenant in self.tenants for key in tenant.keys)


@dataclass(frozen=True)
class Pools:
    """Equal pools of workers of a CPU stage, one in each of some domains."""

    stage: int
    workers: int
    domains: tuple[int, ...]


@dataclass(frozen=True)
class Design:
    """Every decision about an ensemble.

    Attributes
    ----------
    modes
        Memory mode of the copies between host and GPU, by index of the way and of the class.
    """

    pools: tuple[Pools, ...]
    groups: tuple[Group, ...]
    modes: Mapping[Key, MemoryMode]
