"""Times of the steps of a served model, from measured tables of the kernels of one of its layers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import column, read_rows
from planner.simulate.iterations import Line, Piece

FloatArray = NDArray[np.float64]

ONCE = ("embedding", "final_layernorm")
"""Dense kernels that run once in a step; all others run in every layer."""
TWICE = ("layernorm",)
"""Dense kernels that run twice in every layer: before attention and before the feed-forward part."""
FEED_FORWARD = ("gate_up_proj", "down_proj", "act_fn")
"""Dense kernels that a layer with experts does not run."""


@dataclass(frozen=True)
class Shape:
    """What the tables do not say of a model.

    Attributes
    ----------
    layers, hidden
        Layers, and width of the residual stream.
    experts, top_k
        Experts of a layer, and how many each token goes to; 0 without experts.
    """

    layers: int
    hidden: int
    experts: int = 0
    top_k: int = 0


@dataclass(frozen=True)
class Link:
    """Between tensor ranks: bytes/s and s."""

    bandwidth: float
    latency: float

    def all_reduce(self, size: float, ranks: int) -> float:
        """Return the time of a ring all-reduce, s."""
        if ranks == 1:
            return 0.0
        return 2.0 * (ranks - 1) * (self.latency + size / (ranks * self.bandwidth))


@dataclass(frozen=True)
class Curve:
    """Time, s, over a count, straight between the measured ones and beyond the last as before it."""

    counts: FloatArray
    seconds: FloatArray

    def __call__(self, count: float) -> float:
        """Return the time at a count, s."""
        if count > self.counts[-1] and len(self.counts) > 1:
            slope = (self.seconds[-1] - self.seconds[-2]) / (self.counts[-1] - self.counts[-2])
            return float(self.seconds[-1] + slope * (count - self.counts[-1]))
        return float(np.interp(count, self.counts, self.seconds))


def curves(path: Path, key: str) -> dict[str, Curve]:
    """Return the curves of a table by kernel."""
    rows = read_rows(path)
    found = {}
    for name in dict.fromkeys(row["layer"] for row in rows):
        own = sorted((float(row[key]), float(row["time_us"]) * 1e-6) for row in rows if row["layer"] == name)
        table = np.asarray(own)
        found[name] = Curve(table[:, 0], table[:, 1])
    return found


class Attention:
    """Time of attention over one piece of a prompt and a batch that decodes, interpolated in a table.

    Times are straight in what is read and computed: between batches and contexts of the decoding sequences
    their product, between pieces of length :math:`c` after :math:`k` tokens :math:`c (k + c / 2)`.
    """

    def __init__(self, path: Path) -> None:
        rows = read_rows(path)
        names = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
        points = np.stack([column(rows, name) for name in names], axis=1)
        self.axes = [np.unique(points[:, place]) for place in range(4)]
        table = np.full([len(axis) for axis in self.axes], np.nan)
        places = [np.searchsorted(axis, points[:, place]) for place, axis in enumerate(self.axes)]
        table[tuple(places)] = column(rows, "time_us") * 1e-6
        self.table = _filled(table, self.axes)
        self.piece_alone = lru_cache(maxsize=200_000)(self._piece)

    def decode(self, batch: float, context: float) -> float:
        """Return the time of decoding alone, s."""
        return self._decode_plane(self.table[0, 0], batch, context)

    def decode_contexts(self) -> FloatArray:
        """Return the contexts between which decoding is straight."""
        return self.axes[3]

    def piece(self, chunk: int, before: int, batch: float, context: float) -> float:
        """Return what a piece of a prompt adds to a batch that decodes, s."""
        return self.piece_alone(chunk, before, round(batch), round(context / 16.0) * 16)

    def _piece(self, chunk: int, before: int, batch: float, context: float) -> float:
        chunks, olds = self.axes[0], self.axes[1]
        i, j = _cell(chunks, chunk), _cell(olds, before)
        work = [c * (before + c / 2.0) for c in (chunks[i], chunk, chunks[i + 1])]
        right = (work[1] - work[0]) / (work[2] - work[0])
        up = (before - olds[j]) / (olds[j + 1] - olds[j])
        total = 0.0
        for place, weight in ((i, 1.0 - right), (i + 1, right)):
            for old, share in ((j, 1.0 - up), (j + 1, up)):
                plane = self.table[place, old if place else 0]
                total += weight * share * self._decode_plane(plane, batch, context)
        return max(total - self.decode(batch, context), 0.0)

    def _decode_plane(self, plane: FloatArray, batch: float, context: float) -> float:
        batches, contexts = self.axes[2], self.axes[3]
        if batch <= 0.0:
            return float(plane[0, 0])
        i, j = max(_cell(batches, batch), 1), max(_cell(contexts, context), 1)
        right = (batch - batches[i]) / (batches[i + 1] - batches[i])
        up = (context - contexts[j]) / (contexts[j + 1] - contexts[j])
        low = plane[i, j] + up * (plane[i, j + 1] - plane[i, j])
        high = plane[i + 1, j] + up * (plane[i + 1, j + 1] - plane[i + 1, j])
        return float(low + right * (high - low))


def _cell(axis: FloatArray, value: float) -> int:
    """Return the place of the interval of an axis that holds a value, the nearest one outside."""
    return min(max(bisect_right(axis.tolist(), value) - 1, 0), len(axis) - 2)


def _filled(table: FloatArray, axes: Sequence[FloatArray]) -> FloatArray:
    """Fill what was not measured, axis by axis, straight through the nearest measured points."""
    table[0] = table[0, :1]
    table[:, :, 0, :] = table[:, :, 0, :1]
    table[0, :, 0, :] = 0.0
    inner = table[:, :, 1:, 1:]
    for _ in range(3):
        for axis, values in ((3, axes[3][1:]), (1, axes[1]), (2, axes[2][1:]), (0, axes[0])):
            _fill_along(inner, axis, values)
    _fill_along(table[:, :, :1, :1], 1, axes[1])
    table[:, :, 0, :] = table[:, :, 0, :1]
    return table


def _fill_along(table: FloatArray, axis: int, values: FloatArray) -> None:
    """Fill the gaps of all lines along one axis that have at least two points."""
    lines = np.moveaxis(table, axis, -1)
    for place in np.ndindex(lines.shape[:-1]):
        line = lines[place]
        gaps = np.isnan(line)
        known = np.flatnonzero(~gaps)
        if len(known) < 2 or not gaps.any():
            continue
        for gap in np.flatnonzero(gaps):
            right = min(max(int(np.searchsorted(known, gap)), 1), len(known) - 1)
            a, b = known[right - 1], known[right]
            share = (values[gap] - values[a]) / (values[b] - values[a])
            line[gap] = max(line[a] + share * (line[b] - line[a]), 0.0)


class KernelTimes:
    """`StepTimes` of one replica from kernel tables.

    Parameters
    ----------
    folder, tp
        Where the tables ``profile_tp*_*.csv`` are, and for how many tensor ranks.
    shape, link
        Of the model, and between tensor ranks.
    max_batch
        Most sequences; graphs are captured for up to twice as many tokens, 512 at most.
    """

    def __init__(self, folder: Path, tp: int, shape: Shape, link: Link, max_batch: int) -> None:
        stem = f"profile_tp{tp}_"
        self.shape, self.link, self.tp = shape, link, tp
        self.attention = Attention(folder / f"{stem}attention.csv")
        self._dense = curves(folder / f"{stem}dense.csv", "tokens")
        self._sequences = curves(folder / f"{stem}per_sequence.csv", "sequences")
        self._experts = _expert_table(folder / f"{stem}moe.csv")
        self._captured = _captured(min(2 * max_batch, 512))
        self.outside_attention = lru_cache(maxsize=100_000)(self._outside_attention)

    def decode(self, batch: int, context: float) -> Line:
        """Return the time of a decode step; see `StepTimes.decode`."""
        contexts = self.attention.decode_contexts()
        place = max(_cell(contexts, context), 1)
        left, right = float(contexts[place]), float(contexts[place + 1])
        low, high = self.attention.decode(batch, left), self.attention.decode(batch, right)
        slope = (high - low) / (right - left) * self.shape.layers
        base = low * self.shape.layers + self.outside_attention(batch, batch) - slope * left
        return Line(base, slope, right if place + 2 < len(contexts) else float("inf"))

    def mixed(self, pieces: Sequence[Piece], batch: int, context: float) -> tuple[float, float]:
        """Return the time of a step with prompts; see `StepTimes.mixed`."""
        attention = self.attention.decode(batch, context) if batch else 0.0
        for piece in pieces:
            attention += self.attention.piece(piece.end - piece.start, piece.start, batch, context)
        tokens = batch + sum(piece.end - piece.start for piece in pieces)
        return attention * self.shape.layers + self.outside_attention(tokens, batch + len(pieces)), 0.0

    def _outside_attention(self, tokens: int, sequences: int) -> float:
        padded = next((size for size in self._captured if size >= tokens), tokens)
        layer = 2.0 * self.link.all_reduce(padded * self.shape.hidden * 2.0, self.tp)
        once = self.link.all_reduce(padded * self.shape.hidden * 2.0, self.tp)
        for name, curve in self._dense.items():
            if name in ONCE:
                once += curve(padded)
            elif not (self._experts and name in FEED_FORWARD):
                layer += curve(padded) * (2.0 if name in TWICE else 1.0)
        if self._experts:
            layer += self._expert_time(padded)
        once += sum(curve(sequences) for curve in self._sequences.values())
        return layer * self.shape.layers + once

    def _expert_time(self, tokens: float) -> float:
        """Return the time of the experts of a layer, s, when tokens choose them evenly and independently."""
        chance = self.shape.top_k / self.shape.experts
        active = self.shape.experts * (1.0 - (1.0 - chance) ** tokens)
        by_tokens = [(count, curve(active)) for count, curve in self._experts.items()]
        table = np.asarray(by_tokens)
        return Curve(table[:, 0], table[:, 1])(tokens)


def _expert_table(path: Path) -> dict[float, Curve]:
    """Return the time over activated experts by number of tokens; empty for a model without experts."""
    rows = read_rows(path)
    active = next((name for name in (rows[0] if rows else ()) if "expert" in name), "")
    found: dict[float, Curve] = {}
    for tokens in sorted({float(row["tokens"]) for row in rows}):
        own = sorted(
            (float(row[active]), float(row["time_us"]) * 1e-6)
            for row in rows
            if float(row["tokens"]) == tokens
        )
        table = np.asarray(own)
        found[tokens] = Curve(table[:, 0], table[:, 1])
    return found


def _captured(most: int) -> list[int]:
    """Return the numbers of tokens for which vLLM captures graphs; others are padded to the next."""
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)]
    return [size for size in sizes if size <= most]
