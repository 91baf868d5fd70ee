"""Simulate a plan: flows that share links fairly, servers with queues, and statistics of the outcome."""

from planner.simulate.batched_server import Answer, BatchedServer
from planner.simulate.batcher import Batcher, BatcherPolicy, QueuePolicy
from planner.simulate.compute import ComputeStream, GpuCompute
from planner.simulate.engines import CopyEngine, CorePool, Server, Span
from planner.simulate.links import FlowRecord, FlowTrace, LinkSpec, TracedFlow, duplex_weights
from planner.simulate.network import Network
from planner.simulate.plan import simulate_plan
from planner.simulate.replay import Replay, replay
from planner.simulate.result import JobSimulation, LinkUse, Percentiles, SimulationResult, TimelineSpan
from planner.simulate.scenario import Scenario
from planner.simulate.schedule import Op, pipeline_schedule
from planner.simulate.serving import simulate_serving
from planner.simulate.statistics import (
    Interval,
    batch_means_interval,
    common_warm_up,
    mean_interval,
    mser5,
    named_stream,
    percentile_interval,
    replication_interval,
    student_t_quantile,
)
from planner.simulate.traces import load_trace
from planner.simulate.training import simulate_training
from planner.simulate.utilisation import Utilisation

__all__ = [
    "Answer",
    "BatchedServer",
    "Batcher",
    "BatcherPolicy",
    "ComputeStream",
    "CopyEngine",
    "CorePool",
    "FlowRecord",
    "FlowTrace",
    "GpuCompute",
    "Interval",
    "JobSimulation",
    "LinkSpec",
    "LinkUse",
    "Network",
    "Op",
    "Percentiles",
    "QueuePolicy",
    "Replay",
    "Scenario",
    "Server",
    "SimulationResult",
    "Span",
    "TimelineSpan",
    "TracedFlow",
    "Utilisation",
    "batch_means_interval",
    "common_warm_up",
    "duplex_weights",
    "load_trace",
    "mean_interval",
    "mser5",
    "named_stream",
    "percentile_interval",
    "pipeline_schedule",
    "replay",
    "replication_interval",
    "simulate_plan",
    "simulate_serving",
    "simulate_training",
    "student_t_quantile",
]
