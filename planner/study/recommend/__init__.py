"""Which cluster of given building blocks is the smallest that holds the limits of a workload."""

from planner.study.recommend.answer import Capacity, Limit, Point, Recommendation, kind_of
from planner.study.recommend.blocks import Block, By, Cluster, load_block
from planner.study.recommend.search import FABRIC, STEP, Question, recommend

__all__ = [
    "FABRIC",
    "STEP",
    "Block",
    "By",
    "Capacity",
    "Cluster",
    "Limit",
    "Point",
    "Question",
    "Recommendation",
    "kind_of",
    "load_block",
    "recommend",
]
