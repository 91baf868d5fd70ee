"""A server with histograms of two versions of a service, quantiles as Prometheus computes them."""

from __future__ import annotations

import re

import numpy as np

BOUNDS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, np.inf)
"""Bounds of vLLM's histogram of request latencies, s."""


def quantile(bounds: np.ndarray, counts: np.ndarray, level: float) -> float:
    """Return a quantile by linear interpolation inside its bucket (Prometheus, histogram_quantile)."""
    total = np.cumsum(counts)
    rank = level * total[-1]
    place = int(np.searchsorted(total, rank))
    if place >= len(bounds) - 1:
        return float(bounds[-2])
    low, before = (bounds[place - 1], total[place - 1]) if place else (0.0, 0.0)
    return float(low + (bounds[place] - low) * (rank - before) / max(counts[place], 1e-12))


class Histograms:
    """A server that answers queries about one histogram by the pods that they name.

    Parameters
    ----------
    samples
        Latencies by the word that their pods' matcher holds, s.
    topologies
        Digests of the machines by word.
    """

    def __init__(self, samples: dict[str, np.ndarray], topologies: dict[str, set[str]] | None = None) -> None:
        self._bounds = np.asarray(BOUNDS)
        edges = np.concatenate([[0.0], self._bounds])
        self._counts = {word: np.histogram(values, edges)[0] for word, values in samples.items()}
        self._topologies = topologies or {}
        self.asked: list[str] = []

    def query(self, expression: str) -> list[float]:
        self.asked.append(expression)
        word = next((one for one in self._counts if one in expression), None)
        if word is None:
            return []
        counts = self._counts[word]
        match = re.match(r"histogram_quantile\(([0-9.e-]+), ", expression)
        return [float(counts.sum()) if match is None else quantile(self._bounds, counts, float(match[1]))]

    def labels(self, expression: str, name: str) -> set[str]:
        assert name == "topology"
        return next((digests for word, digests in self._topologies.items() if word in expression), set())
