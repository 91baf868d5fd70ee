"""The agent run for real: this machine's sysfs, metrics scraped over HTTP, labels for NFD."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from planner.deploy.agent.metrics import NodeMetrics, feature_text
from planner.deploy.agent.reading import LinkState, Reading, read_node
from planner.deploy.agent.watch import Watch
from planner.deploy.names import is_label_value
from planner.topology import load_topology


@contextmanager
def running(*words: str) -> Iterator[str]:
    """Yield the address of an agent that runs as a program of its own."""
    command = [sys.executable, "-m", "planner.cli", "agent", "--address", "127.0.0.1", "--port", "0", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert "listening on" in line, line
            yield line.rpartition(" ")[2].strip()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0


def fetched(url: str, context: ssl.SSLContext | None = None) -> str:
    """Return a page as soon as the server has it."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=5, context=context) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            assert error.code == 503
            time.sleep(0.2)
    raise AssertionError(f"{url} never became ready")


def values(page: str) -> dict[str, float]:
    """Return the value of each series of a page."""
    rows = [line.rpartition(" ") for line in page.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


@pytest.mark.skipif(not Path("/sys/devices/system/cpu").is_dir(), reason="this machine has no sysfs")
def test_the_agent_watches_this_machine(tmp_path: Path) -> None:
    """Metrics of this very machine are served, the labels written, and a signal ends the agent cleanly."""
    labels = tmp_path / "planner"
    with running("--name", "here", "--labels", str(labels)) as address:
        fetched(f"http://{address}/ready")
        found = values(fetched(f"http://{address}/metrics"))
    memory = [value for name, value in found.items() if name.startswith("planner_numa_memory_bytes{")]
    assert memory and sum(memory) > 2**28
    assert found['planner_links_missing{node="here"}'] == 0
    assert found['planner_probe_failures_total{node="here"}'] == 0
    rows = dict(line.split("=") for line in labels.read_text().splitlines())
    assert rows["planner.example.org/links-verified"] == "true"
    assert all(is_label_value(value) for value in rows.values())


@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not installed"
)
def test_the_agent_speaks_tls(tmp_path: Path) -> None:
    """With a certificate the pages come over TLS, to who trusts it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    trust = ssl.create_default_context(cafile=str(certificate))
    with running("--certificate", str(certificate), "--key", str(key)) as address:
        assert fetched(f"https://{address}/healthz", trust) == "ok\n"


def test_a_machine_that_lacks_links_is_reported(tmp_path: Path) -> None:
    """Held against a machine with eight GPUs, a host without any misses their links and GPUs."""
    expected = load_topology("hgx-h200").nodes[0].machine
    reading = read_node(Path("/"), "here", expected=expected)
    assert not reading.matches and "8 of 8 GPUs" in reading.missing
    assert any("nvlink" in text for text in reading.missing)
    assert "links-verified=false" in feature_text(reading, "planner.example.org")


def test_a_failed_look_keeps_what_was_seen(tmp_path: Path) -> None:
    """A probe that fails is counted, and the last reading stays."""
    watch = Watch(tmp_path, "here", None, None, None, "planner.example.org")
    watch.metrics.reading = Reading("here", (), {}, 3, (), 0.1)
    watch.look()
    found = values(watch.metrics.page().decode())
    assert found['planner_probe_failures_total{node="here"}'] == 1 and found['planner_gpus{node="here"}'] == 3


def test_names_of_parts_are_text_in_metrics() -> None:
    """Quotes and line breaks in a name end no label."""
    metrics = NodeMetrics('a"b\nc')
    metrics.reading = Reading('a"b\nc', (LinkState('x"', "y\n", "pcie", 1.0, up=True),), {}, 0, (), 0.0)
    page = metrics.page().decode()
    assert 'node="a\\"b\\nc"' in page and 'source="x\\""' in page
