r"""Expert dispatch and combine by kernels made for it (DeepEP), inside a node and across nodes.

*Normal* mode forwards a token once per node that one of its experts lives on and copies it with some of
the multiprocessors; a token of :math:`w` bytes takes :math:`\max(c w / s, (n - 1) w / (\eta B))` on
:math:`n` nodes with :math:`s` multiprocessors and ports of :math:`B` bytes/s. *Low-latency* mode sends every
chosen expert its own copy at once: :math:`k w ((1 - r) / (\eta_v V) + r / (\eta B))` where the share
:math:`r = 1 - 1 / n` leaves the node. Dispatch carries fp8 with one scale per 128, combine carries bf16 [1]_.

References
----------
.. [1] deepseek-ai/DeepEP, README.md, "Normal kernels" and "Low-latency kernels".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planner.costs.coefficients import Calibration

FloatArray = NDArray[np.float64]

DIRECTIONS = ("dispatch", "combine")
MODES = ("normal", "ll")
NAMES = {
    "normal": ("start", "doubling", "copy", "crossing", "network", "ramp"),
    "ll": ("start", "doubling", "inside", "network", "ramp"),
}
"""Coefficients ``exchange.MODE.DIRECTION.NAME``.

``start`` and ``doubling``: s without tokens on one node and for every doubling of nodes. ``copy``: s per
byte and multiprocessor inside a node; ``crossing``: its factor across nodes. ``inside``, ``network``: shares
of the rates of the domain and of the port. ``ramp``: see :mod:`planner.costs.protocols`.
"""


@dataclass(frozen=True)
class Exchange:
    """Dispatches or combines; arrays of shape (n,).

    Attributes
    ----------
    tokens, hidden, top_k
        Tokens per GPU, width, experts per token.
    nodes, multiprocessors
        Nodes of 8 GPUs that take part; multiprocessors that copy (normal mode).
    inside, port
        Rate per GPU inside the node and of its network port, bytes/s.
    """

    tokens: FloatArray
    hidden: FloatArray
    top_k: FloatArray
    nodes: FloatArray
    multiprocessors: FloatArray
    inside: float
    port: float


def token_bytes(direction: str, hidden: ArrayLike) -> FloatArray:
    """Return the bytes of a token: fp8 with a scale of 4 bytes per 128 out, bf16 back."""
    width = np.asarray(hidden, dtype=float)
    return width * (1.0 + 4.0 / 128.0) if direction == "dispatch" else width * 2.0


def exchange_time(mode: str, direction: str, batch: Exchange, numbers: FloatArray) -> FloatArray:
    """Return the times of dispatches or combines, s; ``numbers`` in the order of :data:`NAMES`."""
    width = token_bytes(direction, batch.hidden)
    near = batch.nodes <= 1.0
    if mode == "normal":
        start, doubling, copy, crossing, network, ramp = numbers
        copies = copy * width / batch.multiprocessors * np.where(near, 1.0, crossing)
        per_token = np.maximum(copies, (batch.nodes - 1.0) * width / (network * batch.port))
    else:
        start, doubling, inside, network, ramp = numbers
        leaving = 1.0 - 1.0 / batch.nodes
        local, remote = (1.0 - leaving) / (inside * batch.inside), leaving / (network * batch.port)
        per_token = batch.top_k * width * np.maximum(local, remote)
    empty = start + doubling * np.log2(batch.nodes)
    wire = batch.tokens * per_token
    return np.asarray(empty + wire + 2.0 * ramp * np.sqrt(empty * wire))


def calibrated_exchange(mode: str, direction: str, batch: Exchange, calibration: Calibration) -> FloatArray:
    """Return the times of dispatches or combines under a calibration, s."""
    names = [f"exchange.{mode}.{direction}.{name}" for name in NAMES[mode]]
    return exchange_time(mode, direction, batch, np.asarray([calibration.number(name) for name in names]))
