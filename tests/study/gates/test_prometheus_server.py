"""The gate against a real Prometheus server that scrapes a small exporter."""

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

PATIENCE = 30.0
"""Longest wait for the server to start and to scrape, s."""


class _Exporter(BaseHTTPRequestHandler):
    """Serves the figures of a node with two GPUs."""

    body: ClassVar[str] = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def exposition(errors: int, bandwidth: float) -> str:
    return "\n".join(
        [
            "# TYPE DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL counter",
            f'DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL{{gpu="0"}} {errors}',
            'DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL{gpu="1"} 0',
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
    assert failed(server) == []
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
