"""Simulated requests one by one, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from planner.simulate.measures import PARTS, RequestRecords

COLUMNS = ("job", "request", "arrival_s", "output_tokens", "ttft_s", "latency_s")


def request_table(records: Mapping[str, RequestRecords]) -> str:
    """Return a line for each request of each job, in order of arrival, warm-up and cool-down included.

    The columns ``PART_s`` add up to ``latency_s``.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*COLUMNS, *(f"{part}_s" for part in PARTS)])
    for job, found in records.items():
        parts = [found.parts[part].tolist() for part in PARTS]
        columns = (
            found.arrivals.tolist(),
            found.outputs.tolist(),
            found.first.tolist(),
            found.latency.tolist(),
        )
        for number, (arrival, output, first, latency, *times) in enumerate(
            zip(*columns, *parts, strict=True)
        ):
            writer.writerow([job, number, arrival, int(output), first, latency, *times])
    return stream.getvalue()
