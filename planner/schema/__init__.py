"""Documents: strict YAML with positions, versions and migrations, canonical JSON, digests."""

from planner.schema.canonical import canonical_json, digest, plain
from planner.schema.export import json_schema
from planner.schema.figures import (
    BandwidthFigure,
    BytesFigure,
    Figure,
    FlopsFigure,
    FrequencyFigure,
    LatencyFigure,
    PowerFigure,
    PriceFigure,
    Provenance,
    RatioFigure,
)
from planner.schema.files import is_file, read_text, write_bytes_atomic, write_text_atomic
from planner.schema.loader import load, load_any, loads
from planner.schema.locate import raise_faults
from planner.schema.migrations import register_migration
from planner.schema.names import Name
from planner.schema.quantities import (
    Bytes,
    BytesPerSecond,
    Count,
    Flops,
    FlopsPerSecond,
    Hertz,
    PerSecond,
    Ratio,
    Seconds,
    Tokens,
    UsdPerHour,
    Watts,
)
from planner.schema.ranges import compress, expand
from planner.schema.records import Document, Fault, FaultError, Record
from planner.schema.writer import dump_yaml

__all__ = [
    "BandwidthFigure",
    "Bytes",
    "BytesFigure",
    "BytesPerSecond",
    "Count",
    "Document",
    "Fault",
    "FaultError",
    "Figure",
    "Flops",
    "FlopsFigure",
    "FlopsPerSecond",
    "FrequencyFigure",
    "Hertz",
    "LatencyFigure",
    "Name",
    "PerSecond",
    "PowerFigure",
    "PriceFigure",
    "Provenance",
    "Ratio",
    "RatioFigure",
    "Record",
    "Seconds",
    "Tokens",
    "UsdPerHour",
    "Watts",
    "canonical_json",
    "compress",
    "digest",
    "dump_yaml",
    "expand",
    "is_file",
    "json_schema",
    "load",
    "load_any",
    "loads",
    "plain",
    "raise_faults",
    "read_text",
    "register_migration",
    "write_bytes_atomic",
    "write_text_atomic",
]
