"""Simulate a plan: flows that share links fairly, servers with queues, and statistics of the outcome."""

from planner.simulate.engines import ComputeStream, CopyEngine, CorePool, GpuCompute, Server, Span
from planner.simulate.links import FlowRecord, LinkSpec, duplex_weights
from planner.simulate.network import Network
from planner.simulate.plan import simulate_plan
from planner.simulate.replay import FlowTrace, Replay, TracedFlow, replay
from planner.simulate.statistics import (
    Interval,
    batch_means_interval,
    mean_interval,
    mser5,
    named_stream,
    percentile_interval,
    student_t_quantile,
)
from planner.simulate.traces import load_trace
from planner.simulate.utilisation import Utilisation

__all__ = [
    "ComputeStream",
    "CopyEngine",
    "CorePool",
    "FlowRecord",
    "FlowTrace",
    "GpuCompute",
    "Interval",
    "LinkSpec",
    "Network",
    "Replay",
    "Server",
    "Span",
    "TracedFlow",
    "Utilisation",
    "batch_means_interval",
    "duplex_weights",
    "load_trace",
    "mean_interval",
    "mser5",
    "named_stream",
    "percentile_interval",
    "replay",
    "simulate_plan",
    "student_t_quantile",
]
