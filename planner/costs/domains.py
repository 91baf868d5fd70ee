"""What is known of collectives inside the innermost domain of a machine: own table, a sister's, neither."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from planner.costs.coefficients import Calibration
from planner.costs.link_surfaces import CollectiveSurface
from planner.costs.protocols import FloatArray, IntArray
from planner.errors import TopologyError
from planner.schema import presets
from planner.topology import Device, Level, find_device, load_topology

LINKS = {"nvlink": "nvlink", "pcie": "pcie", "socket": "pcie"}
"""Kind of link behind the name of a level; other levels have no table."""


@dataclass(frozen=True)
class Domain:
    """Collectives inside one domain.

    Attributes
    ----------
    surface
        Curves that apply.
    rate
        Rate per GPU and direction, bytes/s.
    reduces
        Whether the domain's switch reduces in flight.
    origin
        ``own``, ``sister`` or ``specification``.
    """

    surface: CollectiveSurface
    rate: float
    reduces: bool
    origin: str

    def seconds(self, operation: str, size: FloatArray, group: FloatArray) -> tuple[FloatArray, IntArray]:
        """Return the times, s, and protocols of collectives; see :mod:`planner.costs.protocols`."""
        return self.surface.seconds(operation, size, group, self.rate, reduces=self.reduces)

    def bulk(self, operation: str, group: FloatArray, size: float) -> tuple[FloatArray, FloatArray]:
        """Return the line, s and s/byte, through the times at ``size`` and four times that."""
        near, far = (
            self.seconds(operation, np.full(len(group), part * size), group)[0] for part in (1.0, 4.0)
        )
        slope = np.clip((far - near) / (3.0 * size), 0.0, near / size)
        return near - slope * size, slope


def domain(level: Level, device: Device, calibration: Calibration) -> Domain | None:
    """Return the collectives inside a level's domains; ``None`` for links that no table describes."""
    link = LINKS.get(level.name)
    if link is None:
        return None
    found = surface_of(device, link, calibration)
    if found is None:
        return None
    surface, origin = found
    return Domain(
        surface, payload_rate(level.rate, device, link, calibration), level.in_switch_reduction, origin
    )


def payload_rate(rate: float, device: Device, link: str, calibration: Calibration) -> float:
    """Return a link's rate, bytes/s, held to the payload that links of the device's generation carry."""
    cap = calibration.coefficients.get(f"{link}_payload_{generation(device)}")
    return rate if cap is None else min(rate, cap.value)


def surface_of(
    device: Device, link: str, calibration: Calibration, *, own: bool = True
) -> tuple[CollectiveSurface, str] | None:
    """Return the device's table, else a sister's of its generation, else the link's, and which it is."""
    tables = calibration.collectives
    if own and device.name in tables and tables[device.name].link == link:
        return tables[device.name], "own"
    for name, table in tables.items():
        if name != device.name and table.link == link == "nvlink" and _generation(name) == generation(device):
            return table, "sister"
    if link not in tables:
        return None
    return at_generation(tables[link], device, calibration), "specification"


def at_generation(surface: CollectiveSurface, device: Device, calibration: Calibration) -> CollectiveSurface:
    """Return a common table with the in-switch rate of the device's generation, where that is known."""
    share = calibration.coefficients.get(f"nvls_rate_{generation(device)}")
    if share is None:
        return surface
    ring = surface.curves["ring"].model_copy(update={"nvls_rate": share.value})
    return CollectiveSurface(**(surface.model_dump() | {"curves": surface.curves | {"ring": ring}}))


def generation(device: Device) -> str:
    """Return the generation that a device's links belong to: ``grace-blackwell-ultra`` is ``blackwell``."""
    return device.architecture.removeprefix("grace-").removesuffix("-ultra")


def _generation(name: str) -> str | None:
    try:
        return generation(find_device(name))
    except TopologyError:
        return None


@dataclass(frozen=True)
class Attachment:
    """How the GPUs of a usual machine of a device model are joined.

    Attributes
    ----------
    link
        ``nvlink`` or ``pcie``.
    rate
        Rate per GPU and direction, bytes/s.
    reduces
        Whether a switch reduces in flight.
    """

    link: str
    rate: float
    reduces: bool


def attachment(device: Device, calibration: Calibration) -> Attachment:
    """Return how GPUs of a model are joined: as in the shipped machine that has it, else by PCIe."""
    found = _shipped_attachments().get(device.name)
    if found is not None and found.link == "nvlink":
        return replace(found, rate=payload_rate(found.rate, device, "nvlink", calibration))
    numbers = calibration.coefficients
    rate = numbers.get(f"pcie_payload_{generation(device)}", numbers["pcie_payload"]).value
    return Attachment("pcie", rate, False)


def shipped_attachment(device: Device) -> Attachment | None:
    """Return how GPUs of a model are joined in the shipped machine that has it, if there is one."""
    return _shipped_attachments().get(device.name)


@cache
def _shipped_attachments() -> dict[str, Attachment]:
    found: dict[str, Attachment] = {}
    for name in presets.names("topologies"):
        if re.search(r"-x\d+", name):
            continue
        machine = load_topology(name)
        for gpu in machine.gpus[:1]:
            level = machine.hierarchy.levels[0]
            link = LINKS.get(level.name)
            if link is not None:
                found.setdefault(
                    machine.device(gpu).name, Attachment(link, level.rate, level.in_switch_reduction)
                )
    return found
