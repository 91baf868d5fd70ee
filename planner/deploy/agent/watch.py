"""The agent of a node: looks at it again and again, and serves what it saw last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from threading import Event, Thread

from planner.deploy.agent.metrics import CONTENT_TYPE, NodeMetrics, feature_text
from planner.deploy.agent.reading import read_node
from planner.deploy.agent.server import Answer, Route
from planner.errors import PlannerError
from planner.schema import write_text_atomic
from planner.topology.machine import MachineType


class Watch:
    """What the agent knows.

    Parameters
    ----------
    root
        Where sys and proc of the host are mounted.
    node, device
        Name of the node, and model of GPUs whose product is unknown.
    expected
        Machine that the node should be.
    labels, domain
        Feature file to write labels to, and their domain.
    """

    def __init__(
        self,
        root: Path,
        node: str,
        device: str | None,
        expected: MachineType | None,
        labels: Path | None,
        domain: str,
    ) -> None:
        self.root, self.node, self.device, self.expected = root, node, device, expected
        self.labels, self.domain = labels, domain
        self.metrics = NodeMetrics(node)

    def look(self) -> None:
        """Look at the node once; a look that fails is counted, and what was seen before stays."""
        try:
            reading = read_node(self.root, self.node, self.device, self.expected)
            if self.labels is not None:
                write_text_atomic(self.labels, feature_text(reading, self.domain))
        except (PlannerError, OSError):
            self.metrics.failures += 1
            return
        self.metrics.reading = reading

    def routes(self) -> Mapping[tuple[str, str], Route]:
        """Return the routes of the agent."""
        return {
            ("GET", "/metrics"): lambda _: Answer(self.metrics.page(), kind=CONTENT_TYPE),
            ("GET", "/healthz"): lambda _: Answer(b"ok\n", kind="text/plain"),
            ("GET", "/ready"): lambda _: self._ready(),
        }

    def _ready(self) -> Answer:
        if self.metrics.reading is None:
            return Answer(b"not looked yet\n", HTTPStatus.SERVICE_UNAVAILABLE, "text/plain")
        return Answer(b"ok\n", kind="text/plain")


@contextmanager
def watched(watch: Watch, interval: float) -> Iterator[None]:
    """Look every ``interval`` seconds, beside what happens inside."""
    ended = Event()

    def loop() -> None:
        while True:
            watch.look()
            if ended.wait(interval):
                return

    thread = Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)
