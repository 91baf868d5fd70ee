"""Scatter plots of predicted over measured values, one colour for each group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def scatter(path: Path, groups: Mapping[str, tuple[ArrayLike, ArrayLike]], unit: str) -> None:
    """Draw predicted over measured values on logarithmic axes, with the line where both are equal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 5.0), layout="constrained")
    axes = figure.add_subplot()
    ends = []
    for name, (predicted, measured) in groups.items():
        guess, truth = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
        known = np.isfinite(guess) & (guess > 0)
        if known.any():
            axes.plot(truth[known], guess[known], ".", markersize=3, alpha=0.6, label=name)
            ends += [truth[known].min(), truth[known].max()]
    if ends:
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color="black", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel=f"measured, {unit}", ylabel=f"predicted, {unit}")
    axes.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
