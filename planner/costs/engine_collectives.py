"""All-reduces as serving engines run them: their own one-shot and two-shot kernels, NCCL above a size.

One-shot: every GPU reads all others' messages at once; two-shot: a reduce-scatter, then an all-gather. Both
are a start and a rate, as NCCL's protocols are, so the same curves describe them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from planner.costs.coefficients import Calibration
from planner.costs.domains import generation, payload_rate
from planner.costs.kept import kept
from planner.costs.link_surfaces import CollectiveSurface
from planner.costs.protocols import FloatArray
from planner.errors import CalibrationError, TopologyError
from planner.topology import Device, find_device

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

KERNELS = ("one-shot", "two-shot", "nccl", "nccl")
"""What the protocols of an engine's curve stand for."""
GRAPH, EAGER, DEFAULT = "cuda_graph", "eager", "default"


@kept
def engine_surface(
    device: Device, calibration: Calibration, engine: str = "vllm", mode: str = GRAPH
) -> CollectiveSurface:
    """Return the nearest measured engine: the same device, else its generation, link, then engine and mode.

    Raises
    ------
    CalibrationError
        If the calibration has no engines.
    """
    wanted = (device.name, generation(device), engine, mode)

    def distance(key: str) -> tuple[bool, ...]:
        name, other, how = key.split("/")
        return (
            _mode(how) != _mode(mode),
            name != wanted[0],
            _generation(name) != wanted[1],
            other != engine,
            how != mode,
        )

    if not calibration.engines:
        raise CalibrationError(
            f"calibration {calibration.name!r} has no 'engines'; complete it by 'collectives'"
        )
    return calibration.engines[min(calibration.engines, key=distance)]


def engine_all_reduce(
    size: ArrayLike,
    num_gpus: ArrayLike,
    device: Device,
    calibration: Calibration,
    *,
    engine: str = "vllm",
    mode: str = GRAPH,
    rate: float | None = None,
) -> FloatArray:
    """Return the times of an engine's all-reduces inside one domain, s; 0 for a single GPU.

    Parameters
    ----------
    size : array_like, shape (n,)
        Bytes per rank.
    num_gpus : array_like, shape (n,)
        Ranks.
    engine, mode
        ``vllm``, ``sglang`` or ``trtllm``; ``cuda_graph``, ``eager`` or ``default``.
    rate
        Rate of the links per GPU, bytes/s; that of the measured machine when absent.
    """
    surface = engine_surface(device, calibration, engine, mode)
    group = np.atleast_1d(np.asarray(num_gpus, dtype=float))
    sizes = np.atleast_1d(np.asarray(size, dtype=float))
    sizes, group = np.broadcast_arrays(sizes, group)
    link = surface.rate if rate is None else payload_rate(rate, device, surface.link, calibration)
    return surface_all_reduce(surface, sizes, group, link)


def surface_all_reduce(
    surface: CollectiveSurface, size: FloatArray, group: FloatArray, link: float
) -> FloatArray:
    """Return the times of all-reduces on links of ``link`` bytes/s, s; 0 for a single GPU."""
    times = surface.seconds("all_reduce", size, group, link, reduces=True)[0]
    return np.asarray(np.where(group > 1.0, times, 0.0))


def _mode(mode: str) -> str:
    return EAGER if mode == EAGER else GRAPH


def _generation(name: str) -> str:
    try:
        return generation(find_device(name))
    except TopologyError:
        return ""
