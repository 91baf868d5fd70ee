"""What stops the files for a cluster from being written."""

from __future__ import annotations

from planner.errors import PlannerError


class DeployError(PlannerError):
    """A plan cannot become files for a cluster, or the files would be wrong; ``reasons`` lists why."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = list(reasons)
        super().__init__("\n".join(reasons))


class UnexpressedError(DeployError):
    """A sound plan that one kind of cluster has no objects for; another kind of files may carry it out."""
