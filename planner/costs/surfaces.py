"""Smooth corrections: what a physical model misses, as Gaussian bumps over the logarithms of a shape."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from planner.schema import Record

FloatArray = NDArray[np.float64]


class Surface(Record):
    """A correction surface, 0 far from its centres.

    Attributes
    ----------
    widths
        Width of the bumps along each feature.
    centres
        Points that carry a bump: for each feature, the coordinates of all of them.
    weights
        Height of each bump, natural logarithm of measured over modelled time.
    """

    widths: list[float]
    centres: list[list[float]]
    weights: list[float]

    @model_validator(mode="after")
    def _shapes_agree(self) -> Surface:
        if len(self.centres) != len(self.widths):
            raise ValueError(f"{len(self.centres)} coordinates of centres but {len(self.widths)} widths")
        if any(len(one) != len(self.weights) for one in self.centres):
            raise ValueError(f"every coordinate needs {len(self.weights)} centres, one for each weight")
        return self

    @cached_property
    def _scaled(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        widths = np.asarray(self.widths)
        centres = np.asarray(self.centres).T / widths
        return widths, centres.T, 0.5 * (centres * centres).sum(axis=1), np.asarray(self.weights)

    def at(self, features: FloatArray) -> FloatArray:
        """Return the correction, natural logarithm, at features of shape (n, d)."""
        widths, centres, halves, weights = self._scaled
        points = features / widths
        cross = points @ centres
        cross -= halves
        cross -= 0.5 * (points * points).sum(axis=1)[:, None]
        return np.asarray(np.exp(np.minimum(cross, 0.0, out=cross), out=cross) @ weights)
