"""Live figures by name: what is asked, how it scatters, and when a canary may be compared."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import pytest

from planner.errors import DocumentError, GateError
from planner.schema import loads
from planner.study.gates import Evidence, Gates, Prometheus, Verdict, default_gates, judge
from planner.study.gates.live import LIVE, Scope
from tests.study.gates.histograms import Histograms

NUMBER = np.random.default_rng(20261124)
SAME = {"canary": {"sha256:a"}, "stable": {"sha256:a"}}
CANARY = {
    "pods": 'pod=~"canary-.*"', "against": 'pod=~"stable-.*"', "nodes": 'node="canary"',
    "against_nodes": 'node="stable"',
}  # fmt: skip
P99 = {"name": "p99", "metric": "live.latency.p99", "worse_by": "2 %"}


def verdict(server: Histograms, *checks: dict[str, Any], **rest: Any) -> Verdict:
    gates = Gates.model_validate(
        {
            "schema": "gates/1",
            "name": "g",
            "canary": CANARY,
            "window": "5 min",
            "checks": list(checks),
            **rest,
        }
    )
    return judge(gates, Evidence({}), None, cast("Prometheus", server))


def versions(
    slower: float = 1.0, requests: int = 10_000, topologies: dict[str, set[str]] | None = None
) -> Histograms:
    """Return two versions whose latencies have exponential laws of mean 3 s, the new one slower."""
    samples = {
        "canary": 3.0 * slower * NUMBER.exponential(size=requests),
        "stable": 3.0 * NUMBER.exponential(size=requests),
    }
    return Histograms(samples, SAME | (topologies or {}))


def test_a_slower_canary_is_caught_and_mere_scatter_is_not() -> None:
    """15 % worse at the 99th percentile: at least 95 times of 100; unchanged: 5 at most.

    Between the coarse bounds of a histogram that takes 20,000 requests each, twice what a simulation needs.
    """
    caught = sum(not verdict(versions(1.15, 20_000), P99).ok for _ in range(100))
    false = sum(not verdict(versions(1.0, 20_000), P99).ok for _ in range(100))
    assert caught >= 95
    assert false <= 5


@pytest.mark.parametrize(("level", "share"), [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)])
def test_the_error_of_a_quantile_is_that_of_repeated_runs(level: str, share: float) -> None:
    """Over 300 runs the figures scatter as each says of itself, within a third."""
    metric = LIVE[f"live.latency.{level}"]
    found = [metric.readings(versions(requests=2000), Scope(('pod="canary"',)))[0] for _ in range(300)]
    scatter = float(np.std([one.value for one in found]))
    stated = float(np.mean([one.deviation for one in found]))
    assert stated == pytest.approx(scatter, rel=0.35)
    assert np.mean([one.value for one in found]) == pytest.approx(-3.0 * np.log(1.0 - share), rel=0.12)


def test_a_rate_scatters_by_the_root_of_its_count() -> None:
    """3,000 requests in 5 minutes: 10/s, give or take 55/300."""
    (found,) = LIVE["live.throughput"].readings(
        Histograms({"canary": np.ones(3000)}), Scope(('pod="canary"',), 300.0)
    )
    assert [found.value, found.deviation] == pytest.approx([10.0, 3000**0.5 / 300.0])


def test_labels_of_gate_check_and_version_are_joined() -> None:
    """Every expression has all three, and the window in seconds."""
    server = versions()
    verdict(server, P99 | {"select": 'model="m"'}, select='namespace="prod"')
    labels = '{namespace="prod",model="m",pod=~"canary-.*"}[300s]'
    assert server.asked[0] == f"sum(increase(vllm:e2e_request_latency_seconds_count{labels}))"
    assert any('pod=~"stable-.*"' in one for one in server.asked)
    assert Scope().fill(LIVE["live.links.missing"].expression) == "max(planner_links_missing)"


@pytest.mark.parametrize(
    ("topologies", "state", "said"),
    [
        ({}, "passed", "sha256:a"),
        ({"canary": {"sha256:b"}}, "failed", "on sha256:b, the version before it on sha256:a"),
        ({"stable": {"sha256:a", "sha256:b"}}, "failed", "sha256:a, sha256:b"),
        ({"canary": set()}, "missing", "no agent says on what the canary runs"),
        ({"stable": set()}, "missing", "no agent says on what the version before it runs"),
    ],
)
def test_a_canary_is_compared_on_one_topology_only(
    topologies: dict[str, set[str]], state: str, said: str
) -> None:
    """Nodes of another kind, or of unknown kind, close the gate, and nothing is compared."""
    found = verdict(versions(topologies=topologies), P99)
    first, second = found.outcomes
    assert (first.name, first.state) == ("same topology", state)
    assert said in first.text
    assert found.ok is (state == "passed")
    assert (second.state == "missing") is (state != "passed")


def test_a_service_without_requests_is_missing() -> None:
    """An empty histogram has no quantile."""
    found = verdict(Histograms({"stable": np.ones(10)}, SAME), P99)
    assert found.outcomes[1].state == "missing" and not found.ok


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checks": [{"name": "a", "metric": "live.latency.p98", "max": "1 s"}]}, "live.latency.p9"),
        ({"checks": [{"name": "a", "metric": "live.nvlink.bandwidth", "min": "1 s"}]}, "data rate"),
        ({"checks": [P99], "canary": None}, "say with what: 'canary'"),
        ({"checks": [{"name": "a", "query": "up", "max": 1, "select": "a"}]}, "in itself"),
        ({"checks": [P99 | {"job": "chat"}]}, "has no 'job'"),
    ],
)
def test_wrong_live_checks_are_refused(change: dict[str, Any], said: str) -> None:
    """Each with what would do."""
    text = json.dumps({"schema": "gates/1", "name": "g", "canary": CANARY} | change)
    with pytest.raises(DocumentError, match=said):
        loads(text, Gates)


def test_a_canary_without_a_server_is_an_error() -> None:
    """Nobody can say on what it runs."""
    gates = Gates.model_validate({"schema": "gates/1", "name": "g", "canary": CANARY, "checks": [P99]})
    with pytest.raises(GateError, match="--prometheus"):
        judge(gates, Evidence({}))


def test_the_gates_of_a_server_alone_watch_links() -> None:
    """Without a document of gates: no error on NVLink, no link missing."""
    metrics = {check.metric for check in default_gates(set(), baseline=False, live=True).checks}
    assert metrics == {"live.nvlink.errors", "live.links.missing"}
