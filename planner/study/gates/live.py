"""Live figures by name: latencies of servers, NVLink counters of DCGM, links that the agent misses.

Series are those of vLLM, dcgm-exporter and ``planner agent``; for others a check has a ``query`` of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Template
from typing import Literal, Protocol

from planner.study.gates.metrics import Reading

LEVELS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
HISTOGRAMS = {
    "latency": "vllm:e2e_request_latency_seconds",
    "ttft": "vllm:time_to_first_token_seconds",
    "tpot": "vllm:request_time_per_output_token_seconds",
}
"""Histograms of vLLM (docs.vllm.ai, production metrics) behind each latency."""
LAST = 1.0 - 1e-9
NVLINK_ERRORS = Template(
    "sum(increase(DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL$labels[$window]))"
    " + (sum(increase(DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL$labels[$window])) or vector(0))"
    " + (sum(increase(DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL$labels[$window])) or vector(0))"
)


class Server(Protocol):
    """Where queries go."""

    def query(self, expression: str) -> list[float]:
        """Return the values of an instant query."""


@dataclass(frozen=True)
class Scope:
    """Which series count, and over which time.

    Attributes
    ----------
    matchers
        Label matchers of PromQL, such as ``pod=~"chat-.*"``.
    window
        Time that counters and histograms are looked at, s.
    """

    matchers: tuple[str, ...] = ()
    window: float = 600.0

    def fill(self, expression: Template) -> str:
        """Return an expression with the scope in its place."""
        labels = "{" + ",".join(self.matchers) + "}" if self.matchers else ""
        return expression.substitute(labels=labels, window=f"{round(self.window)}s")


@dataclass(frozen=True)
class LiveMetric:
    """A figure that a server is asked for.

    Attributes
    ----------
    expression
        PromQL with places for labels and window; of a histogram the name.
    level
        Quantile of a histogram; ``None`` for other series.
    counted
        Whether the expression counts events of the window: the figure is their rate, 1/s.
    """

    dimension: str
    worse: Literal["up", "down"]
    expression: Template
    level: float | None = None
    counted: bool = False

    def readings(self, server: Server, scope: Scope) -> list[Reading]:
        """Return the values, one a series, with the standard errors that their counts give."""
        if self.level is not None:
            return list(_quantile(server, scope, self.expression, self.level))
        found = server.query(scope.fill(self.expression))
        if self.counted:
            return [
                Reading(count / scope.window, deviation=math.sqrt(max(count, 0.0)) / scope.window)
                for count in found
            ]
        return [Reading(value) for value in found]


def _quantile(server: Server, scope: Scope, name: Template, level: float) -> Iterator[Reading]:
    r"""Yield a quantile of a histogram with its standard error.

    The share of requests below the true quantile scatters by :math:`d = \sqrt{q (1 - q) / n}` around
    :math:`q`; half of what lies between the quantiles at :math:`q - d` and :math:`q + d` is the error.
    """
    (count,) = server.query(
        scope.fill(Template(f"sum(increase({name.template}_count$labels[$window]))"))
    ) or [0.0]
    if count <= 0.0:
        return
    width = math.sqrt(level * (1.0 - level) / count)
    places = (level, max(level - width, 0.0), min(level + width, LAST))
    rates = scope.fill(Template(f"sum by (le) (rate({name.template}_bucket$labels[$window]))"))
    values = [server.query(f"histogram_quantile({place!r}, {rates})") for place in places]
    if all(values):
        middle, low, high = (one[0] for one in values)
        yield Reading(middle, deviation=(high - low) / 2.0)


LIVE: Mapping[str, LiveMetric] = {
    **{
        f"live.{what}.{level}": LiveMetric("s", "up", Template(name), share)
        for what, name in HISTOGRAMS.items()
        for level, share in LEVELS.items()
    },
    "live.throughput": LiveMetric(
        "1", "down", Template("sum(increase(vllm:request_success_total$labels[$window]))"), counted=True
    ),
    "live.nvlink.bandwidth": LiveMetric(
        "bytes/s", "down", Template("avg_over_time(DCGM_FI_PROF_NVLINK_TX_BYTES$labels[$window])")
    ),
    "live.nvlink.errors": LiveMetric("1", "up", NVLINK_ERRORS),
    "live.links.missing": LiveMetric("1", "up", Template("max(planner_links_missing$labels)")),
}
"""Every live figure by name."""
