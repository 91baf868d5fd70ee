"""Formulas: compute, transfers, collectives, memory; their coefficients come from calibrations."""

from planner.costs.coefficients import (
    Calibration,
    Coefficient,
    DeviceRates,
    device_rates,
    load_calibration,
)
from planner.costs.collectives import Affine, Fabric, fabric
from planner.costs.serving import ServingCandidates, ServingCosts, ServingModel, ServingSpans, serving_costs
from planner.costs.strategy import Candidates, JobShape, Spans
from planner.costs.training import StageCosts, stage_costs
from planner.costs.transfers import MemoryMode, TransferOption, legal_modes, transfer_options

__all__ = [
    "Affine",
    "Calibration",
    "Candidates",
    "Coefficient",
    "DeviceRates",
    "Fabric",
    "JobShape",
    "MemoryMode",
    "ServingCandidates",
    "ServingCosts",
    "ServingModel",
    "ServingSpans",
    "Spans",
    "StageCosts",
    "TransferOption",
    "device_rates",
    "fabric",
    "legal_modes",
    "load_calibration",
    "serving_costs",
    "stage_costs",
    "transfer_options",
]
