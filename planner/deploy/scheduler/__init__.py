"""A model of the scheduler: where a cluster would put a pod, on which devices, or why it would not."""

from planner.deploy.scheduler.cluster import Cluster
from planner.deploy.scheduler.decide import Verdict, schedule
from planner.deploy.scheduler.neighbours import bind

__all__ = ["Cluster", "Verdict", "bind", "schedule"]
