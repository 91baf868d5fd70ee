"""Slices of GPUs (MIG): which GPU a plan cuts into what, and how a device plugin then counts them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planner.deploy.errors import DeployError
from planner.deploy.platform import Platform
from planner.placement.plan import Plan, ServingPlan

Json = dict[str, Any]
STRATEGY = "nvidia.com/mig.strategy"
INSTANCE_SLICES = "nvidia.com/gpu.slices.gi"
"""Labels of GPU Feature Discovery: the strategy, and with ``single`` the size of every slice of the node."""
_PROFILE = re.compile(r"(?:[0-9]+c\.)?([1-7])g\.[0-9]+gb(\+[a-z.]+)?")


def compute_slices(profile: str) -> int:
    """Return the compute slices of a profile such as ``3g.71gb``.

    Raises
    ------
    DeployError
        If it is no profile.
    """
    match = _PROFILE.fullmatch(profile)
    if match is None:
        raise DeployError(f"{profile!r} is no MIG profile such as 3g.71gb")
    return int(match[1])


def slice_resource(profile: str) -> str:
    """Return the extended resource of a slice under the mixed strategy."""
    return f"nvidia.com/mig-{profile.replace('+', '.')}"


def cuts(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return the profiles that each GPU ``NODE/GPU`` is cut into, one entry for each slice in use."""
    found: dict[str, list[str]] = {}
    for job in plan.jobs:
        if isinstance(job, ServingPlan) and job.mig:
            for gpu in job.gpus():
                found.setdefault(gpu, []).append(job.mig)
    return {gpu: tuple(sorted(profiles)) for gpu, profiles in sorted(found.items())}


def slicing_problems(plan: Plan, platform: Platform) -> Iterator[str]:
    """Yield why a device plugin of the stated strategy cannot give a plan's slices."""
    cut = cuts(plan)
    if not cut or platform.devices == "dra":
        return
    if platform.mig_strategy == "none":
        yield (
            "mig_strategy: none gives no slices of GPUs, which the plan has "
            f"({', '.join(sorted({one for profiles in cut.values() for one in profiles}))}); "
            "use mig_strategy: mixed or single, or devices: dra"
        )
    if platform.mig_strategy == "single":
        yield from _unequal(plan, cut)


def _unequal(plan: Plan, cut: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield nodes whose GPUs are not all cut alike, as the single strategy has them."""
    kinds: dict[str, set[str]] = {}
    for gpu, profiles in cut.items():
        kinds.setdefault(gpu.partition("/")[0], set()).update(profiles)
    for job in plan.jobs:
        if not (isinstance(job, ServingPlan) and job.mig):
            for gpu in job.gpus():
                if gpu.partition("/")[0] in kinds:
                    kinds[gpu.partition("/")[0]].add("whole GPUs")
    for node, found in sorted(kinds.items()):
        if len(found) > 1:
            yield (
                f"mig_strategy: single needs equal slices on a node, but {node} has "
                f"{', '.join(sorted(found))}; use mig_strategy: mixed"
            )


def slice_labels(profile: str, platform: Platform) -> list[Json]:
    """Return the node labels without which a resource would not mean slices of a profile.

    Under the single strategy slices are counted as GPUs, so that a pod would take a whole one elsewhere.
    """
    if platform.devices == "dra" or platform.mig_strategy != "single":
        return []
    values = {STRATEGY: "single", INSTANCE_SLICES: str(compute_slices(profile))}
    return [{"key": key, "operator": "In", "values": [value]} for key, value in values.items()]
