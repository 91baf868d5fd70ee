"""The gate against a real Prometheus server that scrapes a small exporter."""

import math
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from planner.errors import GateError
from planner.study.gates import Evidence, Gates, Prometheus, judge
from tests.study.gates.histograms import BOUNDS

PATIENCE = 30.0
"""Longest wait for the server to start and to scrape, s."""


class _Exporter(BaseHTTPRequestHandler):
    """Serves the figures of a node with two GPUs, and of two versions of a service under load."""

    body: ClassVar[str] = ""
    slower: ClassVar[float] = 1.0
    topology: ClassVar[str] = "sha256:a"
    start: ClassVar[float] = time.monotonic()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        served = int(5000 * (time.monotonic() - self.start))
        text = self.body + versions(served, self.slower, self.topology)
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def exposition(errors: int, bandwidth: float) -> str:
    return "\n".join(
        [
            "# TYPE DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL counter",
            f'DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL{{gpu="0"}} {errors}',
            'DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL{gpu="1"} 0',
            f'DCGM_FI_PROF_NVLINK_TX_BYTES{{gpu="0"}} {bandwidth}',
            "# TYPE nvlink_bytes_per_second gauge",
            f'nvlink_bytes_per_second{{gpu="0"}} {bandwidth}',
            'nvlink_bytes_per_second{gpu="1"} 4e11',
            "# TYPE request_seconds histogram",
            'request_seconds_bucket{le="0.1"} 900',
            'request_seconds_bucket{le="0.5"} 1000',
            'request_seconds_bucket{le="+Inf"} 1000',
            "request_seconds_sum 60",
            "request_seconds_count 1000",
            "",
        ]
    )


def versions(served: int, slower: float, topology: str) -> str:
    """Return what servers, agents and the cluster say of a canary and of the version before it."""
    lines = []
    for pod, node, scale, kind in (("canary-0", "n1", slower, topology), ("stable-0", "n2", 1.0, "sha256:a")):
        name, labels = "vllm:e2e_request_latency_seconds", f'pod="{pod}"'
        for bound in BOUNDS:
            below = served if math.isinf(bound) else int(served * (1.0 - math.exp(-bound / (3.0 * scale))))
            le = "+Inf" if math.isinf(bound) else f"{bound}"
            lines.append(f'{name}_bucket{{{labels},le="{le}"}} {below}')
        lines += [
            f"{name}_count{{{labels}}} {served}",
            f"vllm:request_success_total{{{labels}}} {served}",
            f'kube_pod_info{{{labels},node="{node}"}} 1',
            f'planner_node_info{{node="{node}",topology="{kind}"}} 1',
            f'planner_links_missing{{node="{node}"}} 0',
        ]
    return "\n".join([*lines, ""])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run an exporter and a Prometheus server that scrapes it every second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (make system-deps)")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    _Exporter.body = exposition(0, 4e11)
    exporter = HTTPServer(("127.0.0.1", 0), _Exporter)
    threading.Thread(target=exporter.serve_forever, daemon=True).start()
    config = folder / "prometheus.yml"
    target = f"127.0.0.1:{exporter.server_port}"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: node, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    port = free_port()
    command = [
        program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as running:
        found = Prometheus(f"http://127.0.0.1:{port}", 5.0)
        try:
            wait_for(found, 'up{job="node"}', 1.0)
            wait_for(found, "nvlink_bytes_per_second", 4e11)
            yield found
        finally:
            running.terminate()
            exporter.shutdown()
            exporter.server_close()


def wait_for(server: Prometheus, query: str, value: float) -> None:
    """Wait until a query gives a value."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if value in server.query(query):
                return
        except GateError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{query} did not become {value} within {PATIENCE} s")


GATES = Gates.model_validate(
    {
        "schema": "gates/1",
        "name": "canary",
        "checks": [
            {"name": "errors", "query": "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "max": 0},
            {"name": "bandwidth", "query": "nvlink_bytes_per_second", "min": 3.5e11},
            {"name": "p95", "query": "histogram_quantile(0.95, request_seconds_bucket)", "max": 0.4},
        ],
    }
)


def failed(server: Prometheus, gates: Gates = GATES) -> list[tuple[str, str]]:
    found = judge(gates, Evidence({}), None, server)
    return [(one.name, one.state) for one in found.failures]


@pytest.mark.slow
def test_the_gate_opens_and_closes_with_live_figures(server: Prometheus) -> None:
    """All well; then an error and a slow link; then a metric that nobody exports."""
    _Exporter.body = exposition(0, 4e11)
    wait_for(server, "nvlink_bytes_per_second", 4e11)
    until(server, GATES, [])
    _Exporter.body = exposition(7, 1e11)
    wait_for(server, "nvlink_bytes_per_second", 1e11)
    assert failed(server) == [("errors", "failed"), ("bandwidth", "failed")]
    absent = Gates.model_validate(
        {
            "schema": "gates/1",
            "name": "g",
            "checks": [{"name": "xid", "query": "DCGM_FI_DEV_XID_ERRORS", "max": 0}],
        }
    )
    assert failed(server, absent) == [("xid", "missing")]
    with pytest.raises(GateError, match="parse error"):
        server.query("sum(")


CANARY = Gates.model_validate(
    {
        "schema": "gates/1",
        "name": "canary",
        "window": "8 s",
        "canary": {"pods": 'pod=~"canary-.*"', "against": 'pod=~"stable-.*"'},
        "checks": [
            {"name": "p50", "metric": "live.latency.p50", "worse_by": "5 %"},
            {"name": "p95", "metric": "live.latency.p95", "worse_by": "5 %"},
            {"name": "p99", "metric": "live.latency.p99", "max": "16 s"},
            {"name": "throughput", "metric": "live.throughput", "min": 2000, "worse_by": "10 %"},
        ],
    }
)
LINKS = Gates.model_validate(
    {
        "schema": "gates/1",
        "name": "links",
        "window": "8 s",
        "checks": [
            {"name": "errors", "metric": "live.nvlink.errors", "max": 0},
            {"name": "rate", "metric": "live.nvlink.bandwidth", "min": "300 GB/s"},
            {"name": "missing", "metric": "live.links.missing", "max": 0},
            {"name": "tpot", "metric": "live.tpot.p99", "max": "50 ms"},
        ],
    }
)


@pytest.mark.slow
def test_live_metrics_by_name_are_what_the_server_computes(server: Prometheus) -> None:
    """A canary as quick as before, then slower, then on another kind of node; links; what nobody exports."""
    _Exporter.body = exposition(0, 4e11)
    until(server, CANARY, [])
    (p50,) = [one.value for one in judge(CANARY, Evidence({}), None, server).outcomes if one.name == "p50"]
    assert p50 == pytest.approx(3.0 * math.log(2.0), rel=0.1)
    until(server, LINKS, [("tpot", "missing")])
    _Exporter.slower = 1.5
    until(server, CANARY, [("p50", "failed"), ("p95", "failed"), ("p99", "failed")])
    _Exporter.topology, _Exporter.slower = "sha256:b", 1.0
    compared = [(name, "missing") for name in ("p50", "p95", "throughput")]
    until(server, CANARY, [("same topology", "failed"), *compared])
    _Exporter.body = exposition(7, 1e11)
    until(server, LINKS, [("errors", "failed"), ("rate", "failed"), ("tpot", "missing")])


def until(server: Prometheus, gates: Gates, wanted: list[tuple[str, str]]) -> None:
    """Wait until so many checks fail: windows look back some seconds."""
    end = time.monotonic() + PATIENCE
    while failed(server, gates) != wanted:
        assert time.monotonic() < end, failed(server, gates)
        time.sleep(0.5)
