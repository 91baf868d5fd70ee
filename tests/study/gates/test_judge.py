import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner

from planner.cli.main import cli
from planner.errors import DocumentError, GateError
from planner.report.gate import gate_junit, gate_markdown
from planner.schema import dump_yaml, loads
from planner.simulate.result import JobSimulation, LinkUse, Percentiles, SimulationResult
from planner.study.gates import Check, Evidence, Gates, Prometheus, Verdict, default_gates, judge

NUMBER = np.random.default_rng(20261123)


def percentiles(sample: np.ndarray) -> Percentiles:
    """Return percentiles with intervals by order statistics of a normal approximation."""
    sample = np.sort(sample)
    body: dict[str, Any] = {"count": len(sample), "mean": f"{sample.mean()} s"}
    for level in (0.5, 0.95, 0.99):
        spread = 1.96 * math.sqrt(level * (1.0 - level) * len(sample))
        places = np.clip(np.round(level * len(sample) + np.array([-spread, 0.0, spread])), 0, len(sample) - 1)
        low, middle, high = sample[places.astype(int)]
        name = f"p{round(100 * level)}"
        body |= {name: f"{middle} s", f"{name}_interval": (float(low), float(high))}
    return Percentiles.model_validate(body)


def simulation(slower: float = 1.0, requests: int = 10_000, *, met: bool | None = None) -> SimulationResult:
    """Return a simulation of one service whose latencies have an exponential law of mean 100 ms."""
    latency = percentiles(0.1 * slower * NUMBER.exponential(size=requests))
    job = JobSimulation(
        name="chat", kind="serving", latency={"latency": latency}, throughput=50.0, slo_met=met
    )
    link = LinkUse.model_validate(
        {"source": "a", "target": "b", "kind": "nvlink", "rate": "1 GB/s", "carried": "1 GB", "mean": 0.1,
         "peak": 0.5, "saturated": 0.0, "waiting": "0 s"}
    )  # fmt: skip
    return SimulationResult.model_validate(
        {"schema": "simulation/1", "plan": "p", "plan_digest": "sha256:0", "seed": 0, "horizon": "1 s",
         "jobs": [job], "links": [link]}
    )  # fmt: skip


def gates(*checks: dict[str, Any]) -> Gates:
    return Gates.model_validate({"schema": "gates/1", "name": "g", "checks": list(checks)})


def verdict(
    result: SimulationResult, *checks: dict[str, Any], before: SimulationResult | None = None
) -> Verdict:
    baseline = None if before is None else Evidence({"simulation": before})
    return judge(gates(*checks), Evidence({"simulation": result}), baseline)


P99 = {"name": "p99", "metric": "simulation.latency.p99"}


def test_a_limit_is_kept_or_broken() -> None:
    """The 99th percentile of an exponential law of mean 100 ms is 461 ms."""
    assert verdict(simulation(), P99 | {"max": "520 ms"}).ok
    failed = verdict(simulation(), P99 | {"max": "400 ms"})
    assert not failed.ok
    assert "above 400 ms" in failed.failures[0].text
    assert not verdict(simulation(), {"name": "t", "metric": "simulation.throughput", "min": 60}).ok


def test_a_job_may_be_named() -> None:
    """Without a name the worst job counts; one that is not there is missing, and missing fails."""
    assert verdict(simulation(), P99 | {"max": "520 ms", "job": "chat"}).ok
    outcome = verdict(simulation(), P99 | {"max": "520 ms", "job": "search"}).outcomes[0]
    assert (outcome.state, outcome.ok) == ("missing", False)
    assert verdict(simulation(), P99 | {"max": "520 ms", "job": "search", "missing": "skip"}).ok


def test_a_regression_is_caught_and_mere_scatter_is_not() -> None:
    """15 % worse at the 99th percentile of 10,000 requests: caught 95 times of 100; unchanged: 5 at most."""
    rule = P99 | {"worse_by": "2 %"}
    caught = sum(not verdict(simulation(1.15), rule, before=simulation()).ok for _ in range(100))
    false = sum(not verdict(simulation(), rule, before=simulation()).ok for _ in range(100))
    assert caught >= 95
    assert false <= 5


def test_an_absent_baseline_fails() -> None:
    """A comparison with nothing is no comparison."""
    assert verdict(simulation(), P99 | {"worse_by": 0.02}).outcomes[0].state == "missing"


def test_broken_limits_of_jobs_close_the_gate() -> None:
    """The default gates of a simulation ask whether its jobs keep their limits."""
    asked = default_gates({"simulation"}, baseline=False)
    for met, ok in ((True, True), (False, False), (None, True)):
        assert judge(asked, Evidence({"simulation": simulation(met=met)})).ok is ok


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"name": "a", "metric": "simulation.latency.p98", "max": "1 s"}, "simulation.latency.p9"),
        ({"name": "a", "metric": "simulation.latency.p99", "max": "1 GB"}, "time"),
        ({"name": "a", "metric": "plan.gap"}, "needs a limit"),
        ({"name": "a", "max": 1}, "either a 'metric' or a 'query'"),
        ({"name": "a", "query": "up", "worse_by": 0.1}, "no baseline"),
    ],
)
def test_wrong_checks_are_refused_with_what_would_do(check: dict[str, Any], said: str) -> None:
    """Unknown metrics name the nearest, limits need the metric's unit."""
    text = "schema: gates/1\nname: g\nchecks:\n- " + json.dumps(check) + "\n"
    with pytest.raises(DocumentError, match=said):
        loads(text, Gates)


class _Server(BaseHTTPRequestHandler):
    """Answers queries as Prometheus does: by the name of the metric in the expression."""

    answers: ClassVar[dict[str, tuple[int, str]]] = {}

    def do_GET(self) -> None:
        code, body = next((answer for key, answer in self.answers.items() if key in self.path), (404, ""))
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def vector(*values: str) -> str:
    series = [{"metric": {"gpu": str(i)}, "value": [1.0, value]} for i, value in enumerate(values)]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": series}})


@pytest.fixture
def server() -> Iterator[str]:
    """Return the address of a server that speaks the HTTP API."""
    _Server.answers = {
        "errors": (200, vector("0", "3")),
        "bandwidth": (200, vector("4e11", "3e11")),
        "nothing": (200, vector()),
        "nan": (200, vector("NaN")),
        "one": (
            200,
            json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [1.0, "1"]}}),
        ),
        "bad": (400, json.dumps({"status": "error", "error": "parse error"})),
        "html": (200, "<html>"),
        "matrix": (200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": []}})),
    }
    running = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()
    thread.join()


def live(url: str, query: str, **limits: Any) -> Verdict:
    return judge(gates({"name": "live", "query": query, **limits}), Evidence({}), None, Prometheus(url, 2.0))


def test_live_figures_are_judged_series_by_series(server: str) -> None:
    """The worst series counts: the one with errors, the slowest link."""
    assert not live(server, "errors", max=0).ok
    assert live(server, "errors", max=3).ok
    assert not live(server, "bandwidth", min=3.5e11).ok
    assert live(server, "one", max=1, min=1).ok


@pytest.mark.parametrize("query", ["nothing", "nan"])
def test_an_absent_live_figure_is_missing_and_fails(server: str, query: str) -> None:
    """No series, or only not-a-number, is no evidence."""
    found = live(server, query, max=1)
    assert (found.ok, found.outcomes[0].state) == (False, "missing")


@pytest.mark.parametrize(
    ("query", "said"), [("bad", "parse error"), ("html", "no JSON"), ("matrix", "matrix"), ("else", "404")]
)
def test_a_server_that_does_not_answer_as_expected_is_an_error(server: str, query: str, said: str) -> None:
    """The gate stays closed, with the reason."""
    with pytest.raises(GateError, match=said):
        live(server, query, max=1)


def test_no_server_is_an_error() -> None:
    """A closed port, an address that is none, and a query without any server."""
    with pytest.raises(GateError, match="cannot be reached"):
        live("http://127.0.0.1:9", "up", max=1)
    with pytest.raises(GateError, match="no address"):
        live("prometheus:9090", "up", max=1)
    with pytest.raises(GateError, match="--prometheus"):
        judge(gates({"name": "q", "query": "up", "max": 1}), Evidence({}))


HOSTILE = "p99 | `rm` <b>&\n# x"


def test_reports_escape_what_names_hold() -> None:
    """Well-formed XML, one Markdown row per check."""
    found = verdict(simulation(), {"name": HOSTILE, "metric": "simulation.latency.p99", "max": "1 ms"})
    suite = ET.fromstring(gate_junit(found).encode()).find("testsuite")
    assert suite is not None and suite.get("failures") == "1"
    rows = gate_markdown(found).splitlines()
    assert len(rows) == 5 and "<b>" not in rows[-1]


def test_the_command_ends_with_5_and_writes_its_reports(tmp_path: Path) -> None:
    """Passing: 0. A breach: 5, with the name of the check on standard error and in both files."""
    result, before = tmp_path / "now.yaml", tmp_path / "before.yaml"
    result.write_text(dump_yaml(simulation(1.5)))
    before.write_text(dump_yaml(simulation()))
    junit, markdown = tmp_path / "gate.xml", tmp_path / "gate.md"
    run = CliRunner().invoke
    assert run(cli, ["gate", str(before)]).exit_code == 0
    arguments = [
        "gate",
        str(result),
        "--baseline",
        str(before),
        "--junit",
        str(junit),
        "--markdown",
        str(markdown),
    ]
    ended = run(cli, arguments)
    assert ended.exit_code == GateError.exit_code == 5
    assert "simulation.latency.p99" in ended.output
    assert "FAILED" in markdown.read_text() and ET.parse(junit).getroot().tag == "testsuites"
    assert run(cli, arguments).exit_code == 1  # the reports are there already
    found = json.loads(run(cli, ["gate", str(result), "--baseline", str(before), "--json"]).output)
    assert found["ok"] is False
    assert run(cli, ["gate"]).exit_code == 2


def test_checks_know_the_dimension_of_their_metric() -> None:
    """Times take units of time, ratios plain numbers or percent."""
    check = Check.model_validate({"name": "a", "metric": "plan.gap", "max": "5 %", "worse_by": "10 %"})
    assert (check.limit(check.max), check.tolerance()) == (0.05, 0.1)
