"""Training stacks: how far a framework is from the kernels at face value, as few named coefficients.

A calibration holds ``training.STACK.NAME``; what it lacks comes from ``training.default.NAME``, fitted to
runs of all stacks, else from ``training.stated.NAME``, what one expects and every fit starts from. A stack is
a framework, with its release where one is known: ``megatron-bridge@26.04``. ``training.STACK/TAG.NAME`` is a
factor on top, for an architecture of devices (how it throttles under this stack's load) or for a release.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from planner.costs.coefficients import Calibration

FloatArray = NDArray[np.float64]

PREFIX = "training"
DEFAULT_STACK = "default"
STATED = "stated"


@dataclass(frozen=True)
class StackCoefficients:
    """Multipliers of physical times, overlaps, and what the host needs; floats, or arrays of shape (n,).

    Attributes
    ----------
    gemm, attention, elementwise, casts
        Time in training over the time of the kernel alone: products, the attention core, element-wise
        kernels, conversions to 8 and 4 bits. Clocks under sustained load, unfused kernels and masks are here.
    scores
        The same for reading and writing attention scores without a fused kernel.
    host, host_moe
        What the host needs to launch one pass of a dense or expert layer, s.
    tensor, data, expert
        Multipliers of communication: tensor and context groups, gradients and shards, experts.
    tensor_narrow
        Factor on tensor communication for every halving of the group below 8 ranks, whose rings use fewer
        channels.
    network
        Multiplier of tensor communication that leaves the innermost domain; the larger of it and the
        multiplier inside counts.
    message
        What a message of the tensor group costs besides, whatever its size, s.
    accumulate
        Multiplier of the traffic that adds a micro-batch's weight gradients to those before.
    tensor_overlap, data_overlap
        Shares of that communication that may hide behind compute, 0 to 1.
    head
        Multiplier of the output projection, the loss and the embedding.
    micro_batch, step
        Fixed times of a micro-batch on the last stage and of an optimizer step, s.
    update
        Multiplier of the optimizer's memory traffic.
    """

    gemm: float | FloatArray
    attention: float | FloatArray
    scores: float | FloatArray
    elementwise: float | FloatArray
    casts: float | FloatArray
    host: float | FloatArray
    host_moe: float | FloatArray
    tensor: float | FloatArray
    tensor_narrow: float | FloatArray
    network: float | FloatArray
    message: float | FloatArray
    accumulate: float | FloatArray
    tensor_overlap: float | FloatArray
    data: float | FloatArray
    data_overlap: float | FloatArray
    expert: float | FloatArray
    head: float | FloatArray
    micro_batch: float | FloatArray
    step: float | FloatArray
    update: float | FloatArray


NAMES = tuple(field.name for field in fields(StackCoefficients))
SHARES = ("tensor_overlap", "data_overlap")
"""Coefficients between 0 and 1."""
BY_OPERATION = ("torchtitan",)
"""Stacks whose selective recomputation keeps every second product of a layer, and attention."""


def by_operation(stack: str | None) -> bool:
    """Return whether selective recomputation chooses operations one by one."""
    return stack is not None and stack.split("@", 1)[0] in BY_OPERATION


def stack_coefficients(
    calibration: Calibration, stack: str | None = None, architecture: str | None = None
) -> StackCoefficients:
    """Return the coefficients of a stack on an architecture of devices."""
    family = DEFAULT_STACK if stack is None else stack.split("@", 1)[0]
    tags = list(_tags(calibration, stack, architecture))
    values = {}
    for name in NAMES:
        value = _number(calibration, family, name)
        for tag in tags:
            factor = calibration.coefficients.get(f"{PREFIX}.{family}/{tag}.{name}")
            value *= 1.0 if factor is None else factor.value
        values[name] = min(value, 1.0) if name in SHARES else value
    return StackCoefficients(**values)


def _number(calibration: Calibration, family: str, name: str) -> float:
    own = calibration.coefficients.get(f"{PREFIX}.{family}.{name}")
    if own is None:
        own = calibration.coefficients.get(f"{PREFIX}.{DEFAULT_STACK}.{name}")
    return calibration.number(f"{PREFIX}.{STATED}.{name}") if own is None else own.value


def _tags(calibration: Calibration, stack: str | None, architecture: str | None) -> Iterator[str]:
    if architecture is not None:
        yield architecture
    if stack is None or "@" not in stack:
        return
    family, release = stack.split("@", 1)
    known = sorted({tag for one, tag in tagged(calibration) if one == family and tag[:1].isdigit()})
    if not release[:1].isdigit():
        yield release
    elif known:
        before = [one for one in known if one <= release]
        yield before[-1] if before else known[0]


def tagged(calibration: Calibration) -> set[tuple[str, str]]:
    """Return the stacks that have factors, with the tags."""
    found = set()
    for name in calibration.coefficients:
        prefix, _, rest = name.partition(".")
        if prefix == PREFIX and "/" in rest:
            family, _, after = rest.partition("/")
            found.add((family, after.rpartition(".")[0]))
    return found


def stacks(calibration: Calibration) -> list[str]:
    """Return the names of the stacks that a calibration has coefficients of."""
    parts = [name.split(".") for name in calibration.coefficients if name.startswith(f"{PREFIX}.")]
    return sorted({part[1] for part in parts if "/" not in part[1]} - {DEFAULT_STACK, STATED})
