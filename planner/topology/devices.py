"""The catalogue of devices searched by any name under which measurements know them."""

from __future__ import annotations

from functools import cache

from planner.errors import TopologyError, nearest
from planner.topology.models import Device
from planner.topology.resolve import shipped_devices


def find_device(name: str) -> Device:
    """Return the shipped device of that name or alias, such as ``h100-sxm-80`` or ``h100_sxm``.

    Capital letters do not count, and ``_``, ``-`` and blanks are one.

    Raises
    ------
    TopologyError
        If no device of the catalogue has the name.
    """
    known = _by_name()
    try:
        return known[_folded(name)]
    except KeyError:
        close = nearest(_folded(name), known)
        hint = f"; did you mean {known[close].name!r}?" if close else ""
        raise TopologyError(f"no device is called {name!r}{hint}") from None


@cache
def _by_name() -> dict[str, Device]:
    devices = shipped_devices().devices
    aliases = {_folded(alias): device for device in devices for alias in device.aliases}
    return aliases | {_folded(device.name): device for device in devices}


def _folded(name: str) -> str:
    return "-".join(name.casefold().replace("_", " ").replace("-", " ").split())
