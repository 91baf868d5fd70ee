r"""Time of a collective inside one domain by protocol: a few named numbers and NCCL's choice of the least.

NCCL moves small messages with flags beside the data (LL, then LL128) and large ones in bulk (Simple, or
in-switch reduction, NVLS). Each protocol is a start, a number of steps and a rate; the quickest is chosen
([1]_, ``tuning.cc``). Bulk transfers are cut in chunks; with the best cut a start :math:`b` and a wire time
:math:`x` take :math:`b + x + 2 q \sqrt{b x}`, the ramp (:math:`q = 1`: a perfect pipeline of one stage [2]_).

References
----------
.. [1] NVIDIA/nccl 5067397c, ``src/graph/tuning.cc``.
.. [2] R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in MPICH",
   IJHPCA, 2005.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from planner.schema import Record

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PROTOCOLS = ("ll", "ll128", "simple", "nvls")
"""Names behind the numbers that :func:`quickest` returns."""
OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "alltoall", "send")
NVLS_LEAST = 5
"""Fewest ranks for which NCCL reduces in the switch (rings are chosen up to 4 on measured H200 nodes)."""
_SHARPNESS = 12.0


class ProtocolCurve(Record):
    """Numbers of the protocols inside one kind of domain.

    Attributes
    ----------
    start, step
        Time of an LL collective without data, s, and of each of its steps, s.
    ll128_start
        How much later LL128 starts, a ratio of the LL start.
    ll_rate, ll128_rate, simple_rate, nvls_rate
        Share of the link's rate that each protocol reaches.
    simple_start, simple_step
        What the Simple protocol adds to the start of LL128, s, and to each step, s.
    copy_share
        Local copy of a rank's own data, as a share of the message over the link's rate.
    ramp, nvls_ramp
        Loss by cutting bulk transfers in chunks, see the module.
    floor
        Least time between two collectives, s: the host's when it launches each by itself.
    """

    start: float = Field(gt=0)
    step: float = Field(gt=0)
    ll128_start: float = Field(gt=0)
    ll_rate: float = Field(gt=0)
    ll128_rate: float = Field(gt=0)
    simple_start: float = Field(gt=0)
    simple_step: float = Field(gt=0)
    simple_rate: float = Field(gt=0)
    copy_share: float = Field(gt=0)
    ramp: float = Field(gt=0)
    nvls_rate: float = Field(gt=0)
    nvls_ramp: float = Field(gt=0)
    floor: float = Field(gt=0)

    @property
    def values(self) -> FloatArray:
        """The numbers in the order of :data:`NAMES`."""
        return np.asarray([getattr(self, name) for name in NAMES])


NAMES = tuple(ProtocolCurve.model_fields)


@dataclass(frozen=True)
class Message:
    """Collectives inside a domain; arrays of shape (n,).

    Attributes
    ----------
    size
        Bytes as nccl-tests counts them: the whole buffer.
    traffic
        Bytes that each GPU sends over :attr:`size`.
    steps
        Steps one after another.
    rate
        Link's rate per GPU and direction, bytes/s.
    reduces
        Whether the domain's switch can reduce this collective.
    """

    size: FloatArray
    traffic: FloatArray
    steps: FloatArray
    rate: FloatArray
    reduces: NDArray[np.bool_]


def message(
    operation: str, size: FloatArray, group: FloatArray, rate: FloatArray | float, *, reduces: bool
) -> Message:
    """Return the messages of one operation among ``group`` ranks of one domain."""
    group = np.asarray(group, dtype=float)
    all_reduce = operation == "all_reduce"
    traffic = (2.0 if all_reduce else 1.0) * (group - 1.0) / np.maximum(group, 1.0)
    steps = (2.0 if all_reduce else 1.0) * (group - 1.0)
    if operation == "send":
        traffic, steps = np.ones_like(group), np.ones_like(group)
    switch = (group >= NVLS_LEAST) & (all_reduce and reduces)
    return Message(np.asarray(size, dtype=float), traffic, steps, np.asarray(rate) + 0.0 * group, switch)


def options(values: FloatArray, batch: Message) -> FloatArray:
    """Return the time of every protocol, shape (4, n), s; ``values`` has shape (13, n) or (13, 1)."""
    start, step, later, ll, ll128, more, more_step, simple, copy, ramp, nvls, nvls_ramp, _ = values
    empty = start + step * batch.steps
    ideal = batch.size / batch.rate
    bulk = empty * (1.0 + later) + more + more_step * batch.steps
    wire = ideal * (batch.traffic + copy) / simple
    switched = np.where(batch.reduces, ideal / nvls, np.inf)
    flagged = ideal * batch.traffic
    return np.asarray(
        [
            empty + flagged / ll,
            empty * (1.0 + later) + flagged / ll128,
            bulk + wire + 2.0 * ramp * np.sqrt(bulk * wire),
            bulk + switched + 2.0 * nvls_ramp * np.sqrt(bulk * switched),
        ]
    )


def quickest(values: FloatArray, batch: Message) -> tuple[FloatArray, IntArray]:
    """Return the time, s, and the protocol chosen; near a change of protocol the times blend.

    Measured curves have rounded corners: NCCL's own choice is not exact, and its channels grow with size.
    """
    times = options(values, batch)
    least = np.min(times, axis=0)
    blend = least * np.sum((least / times) ** _SHARPNESS, axis=0) ** (-1.0 / _SHARPNESS)
    floor = values[-1]
    high = np.maximum(blend, floor)
    total = high * ((blend / high) ** _SHARPNESS + (floor / high) ** _SHARPNESS) ** (1.0 / _SHARPNESS)
    return np.asarray(total), np.argmin(times, axis=0)
