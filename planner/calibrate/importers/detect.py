"""Tell the tool that printed an output from its content, and read it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from planner.calibrate.importers.blocks import BenchOutput, OutputRefusedError
from planner.calibrate.importers.copies import read_bandwidth_test, read_gpu_copy, read_p2p
from planner.calibrate.importers.markdown import read_markdown
from planner.calibrate.importers.nccl_json import read_nccl_json
from planner.calibrate.importers.nccl_tests import read_nccl_tests
from planner.calibrate.importers.nvbandwidth import read_nvbandwidth, read_nvbandwidth_json
from planner.calibrate.importers.text import decoded, lines_of

Reader = Callable[[str, str], BenchOutput]

_LINES: tuple[tuple[re.Pattern[str], Reader], ...] = (
    (re.compile(r"nvbandwidth Version:|Running \w+\.?\s*$|SUM \w+_(?:ce|sm) "), read_nvbandwidth),
    (re.compile(r"#?\s*size\s+count\s+type\s|#\s*nThread\s"), read_nccl_tests),
    (re.compile(r"bandwidthTest-|\[CUDA Bandwidth Test\]"), read_bandwidth_test),
    (re.compile(r"\[P2P \(Peer-to-Peer\)|.*\bP2P\b.*\bMatrix"), read_p2p),
    (re.compile(r"(?:cpu|gpu)\w*_(?:to|and)_\w+\s+\S+\s*$"), read_gpu_copy),
    (re.compile(r"\s*\|.*\|"), read_markdown),
)
"""First lines by which a tool is known, the most telling first."""
_KEYS: Mapping[str, Reader] = {"nvbandwidth": read_nvbandwidth_json, "results": read_nccl_json}


def read(path: str | Path) -> BenchOutput:
    """Read the output of a benchmark.

    Raises
    ------
    OutputRefusedError
        If there is no such file, no known tool printed it, or it cannot be read for certain.
    """
    return read_text(decoded(Path(path)), str(path))


def read_text(text: str, name: str) -> BenchOutput:
    """Read the output of a benchmark from a text; see :func:`read`."""
    if not text.strip("\ufeff \t\r\n"):
        raise OutputRefusedError(name, 0, "the file is empty")
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        return _read_json(text, name)
    lines = [line.text for line in lines_of(text)]
    readers = [reader for pattern, reader in _LINES if any(pattern.match(line) for line in lines)]
    if not readers:
        raise OutputRefusedError(
            name, 0,
            "no output that is known; these are: nccl-tests, rccl-tests, nvbandwidth (text or JSON), "
            "bandwidthTest, p2pBandwidthLatencyTest, gpu_copy, a Markdown table of rates",
        )  # fmt: skip
    outputs = [readers[0](text, name)]
    if readers[0] is read_nccl_tests and read_p2p in readers:  # people keep both in one file
        outputs.append(read_p2p(text, name))
    return _joined(outputs)


def _joined(outputs: list[BenchOutput]) -> BenchOutput:
    first = outputs[0]
    for other in outputs[1:]:
        first = replace(first, blocks=first.blocks + other.blocks, warnings=first.warnings + other.warnings)
    return first


def _read_json(text: str, name: str) -> BenchOutput:
    for key, reader in _KEYS.items():
        if re.search(rf'"{key}"\s*:', text):
            return reader(text, name)
    raise OutputRefusedError(name, 0, "JSON of no tool that is known (nvbandwidth -j, nccl-tests -J)")
