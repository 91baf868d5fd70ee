"""Formulas: compute, transfers, collectives, memory; their coefficients come from calibrations."""

from planner.costs.access import (
    Access,
    HostPath,
    MemoryMode,
    ModeTime,
    Threshold,
    legal_modes,
    mode_times,
    thresholds,
)
from planner.costs.coefficients import (
    Calibration,
    Coefficient,
    DeviceRates,
    device_rates,
    load_calibration,
)
from planner.costs.collectives import Affine, Fabric, fabric
from planner.costs.serving import ServingModel, serving_costs
from planner.costs.serving_records import ServingCandidates, ServingCosts, ServingSpans
from planner.costs.strategy import Candidates, JobShape, Spans
from planner.costs.training import StageCosts, stage_costs
from planner.costs.transfers import TransferOption, transfer_options

__all__ = [
    "Access",
    "Affine",
    "Calibration",
    "Candidates",
    "Coefficient",
    "DeviceRates",
    "Fabric",
    "HostPath",
    "JobShape",
    "MemoryMode",
    "ModeTime",
    "ServingCandidates",
    "ServingCosts",
    "ServingModel",
    "ServingSpans",
    "Spans",
    "StageCosts",
    "Threshold",
    "TransferOption",
    "device_rates",
    "fabric",
    "legal_modes",
    "load_calibration",
    "mode_times",
    "serving_costs",
    "stage_costs",
    "thresholds",
    "transfer_options",
]
