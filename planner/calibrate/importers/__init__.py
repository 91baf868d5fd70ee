"""Outputs of benchmark tools as measured samples."""

from planner.calibrate.importers.blocks import (
    BenchOutput,
    Block,
    CollectiveRow,
    CollectiveTable,
    Matrix,
    OutputRefusedError,
    RateTable,
    Sample,
    SizeTable,
    Sweep,
    SweepRow,
)
from planner.calibrate.importers.detect import read, read_text

__all__ = [
    "BenchOutput",
    "Block",
    "CollectiveRow",
    "CollectiveTable",
    "Matrix",
    "OutputRefusedError",
    "RateTable",
    "Sample",
    "SizeTable",
    "Sweep",
    "SweepRow",
    "read",
    "read_text",
]
