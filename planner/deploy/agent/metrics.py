"""Readings as metrics of Prometheus, and as a feature file of Node Feature Discovery."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from planner import __version__
from planner.deploy.affinity import KIND
from planner.deploy.agent.reading import Reading
from planner.deploy.names import is_label_value

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class NodeMetrics:
    """A collector: the last reading of a node, and how many failed.

    Parameters
    ----------
    node
        Name of the node, a label of every series.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self.reading: Reading | None = None
        self.failures = 0
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        yield InfoMetricFamily(
            "planner_agent", "the agent", value={"version": __version__, "node": self.node}
        )
        failed = CounterMetricFamily(
            "planner_probe_failures", "looks at the node that failed", labels=["node"]
        )
        failed.add_metric([self.node], self.failures)
        yield failed
        if self.reading is not None:
            yield from _reading(self.reading)

    def page(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)


def _gauge(name: str, text: str, reading: Reading, value: float) -> Metric:
    found = GaugeMetricFamily(name, text, labels=["node"])
    found.add_metric([reading.node], value)
    return found


def _reading(reading: Reading) -> Iterator[Metric]:
    labels = ["node", "source", "target", "kind"]
    up = GaugeMetricFamily("planner_link_up", "whether a link is there at its expected rate", labels=labels)
    speed = GaugeMetricFamily(
        "planner_link_bytes_per_second", "rate of a link in one direction", labels=labels
    )
    for link in reading.links:
        values = [reading.node, link.source, link.target, link.kind]
        up.add_metric(values, float(link.up))
        speed.add_metric(values, link.rate)
    yield from (up, speed)
    memory = GaugeMetricFamily(
        "planner_numa_memory_bytes", "memory of a NUMA domain", labels=["node", "numa"]
    )
    for numa, size in reading.numa_memory.items():
        memory.add_metric([reading.node, numa], size)
    yield memory
    kind = InfoMetricFamily("planner_node", "machine that the node is, by its digest", labels=["node"])
    kind.add_metric([reading.node], {"topology": reading.topology})
    yield kind
    c2c = sum(link.kind == "nvlink-c2c" for link in reading.links)
    yield _gauge("planner_gpus", "GPUs of the node", reading, reading.num_gpus)
    yield _gauge("planner_c2c_links", "directed NVLink-C2C links of the node", reading, c2c)
    yield _gauge("planner_links_missing", "expected links that are not there", reading, len(reading.missing))
    yield _gauge("planner_probe_seconds", "time of the last probe", reading, reading.seconds)


def feature_text(reading: Reading, domain: str) -> str:
    """Return the labels of a node as a local feature file of NFD, under the planner's own domain."""
    found = {
        "links-verified": "true" if reading.matches else "false",
        "gpus": str(reading.num_gpus),
        "numa-domains": str(len(reading.numa_memory)),
        "links-missing": str(len(reading.missing)),
        KIND: reading.kind,
    }
    legal = {key: value for key, value in found.items() if value and is_label_value(value)}
    return "".join(f"{domain}/{key}={value}\n" for key, value in legal.items())
