"""How many training configurations the cost model prices in a second of one core."""

from __future__ import annotations

import time

import numpy as np

from planner.calibrate.training_machines import machine_links, nested_spans
from planner.costs import load_calibration
from planner.costs.kernels import kernels
from planner.costs.pipeline import even_step_times
from planner.costs.strategy import Candidates, JobShape
from planner.costs.training import stage_costs
from planner.topology import find_device
from planner.workload.resolve import model_presets

GPUS = 1024


def candidates(model_heads: int, layers: int) -> Candidates:
    """Return all strategies of 1024 GPUs with degrees that are powers of two."""
    found = []
    for tp in (1, 2, 4, 8):
        for pp in (1, 2, 4, 8, 16, 32):
            if model_heads % tp or layers % pp:
                continue
            dp = GPUS // (tp * pp)
            found += [
                (tp, pp, dp, 1, 1, virtual, micro, again, sharding, parallel)
                for virtual in ((1,) if pp == 1 else (1, 2, 4))
                for micro in (1, 2, 4, 8, 16)
                for again in (0, 1, 2)
                for sharding in ((0, 1, 2, 3) if pp == 1 else (0, 1))
                for parallel in ((0,) if tp == 1 else (0, 1))
            ]
    return Candidates(*(np.ascontiguousarray(column) for column in np.asarray(found, dtype=np.int64).T))


def configurations_per_second(least: int = 20_000) -> float:
    """Return the rate at which whole costs, time and memory, are worked out for GPT-3 175B on 1024 H100."""
    calibration, model = load_calibration(), model_presets()["gpt3-175b"]
    device = find_device("h100-sxm-80")
    fabric, inner = machine_links(device, 8, "", calibration)
    one = candidates(model.heads, model.layers)
    many = one.take(np.tile(np.arange(len(one)), -(-least // len(one))))
    shape = JobShape(model, 2048, 4096, True, 2.0)
    found, done, started = kernels(device, calibration), 0, time.process_time()
    while time.process_time() - started < 0.5:
        costs = stage_costs(shape, many, nested_spans(many, inner), found, fabric, calibration)
        dense = np.full(len(many), model.layers)
        even_step_times(costs, many.pp, many.virtual, dense, 0 * dense)
        done += len(many)
    return done / (time.process_time() - started)
