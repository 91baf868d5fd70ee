"""What a PCI function is, by its class and identity (pci.ids; PCI Code and ID Assignment Specification)."""

from __future__ import annotations

from enum import Enum

NVIDIA, AMD = 0x10DE, 0x1002
_DISPLAY, _PROCESSING = 0x03, 0x12
_NETWORK, _OTHER_BRIDGE = 0x02, 0x0680
_NVSWITCHES = frozenset({0x1AC0, 0x1AC1, 0x1AC2, 0x1AF1, 0x22A3})
"""NVSwitches of the V100, A100 and H100 generations (pci.ids, "NVSwitch")."""
_FIXED_FUNCTION = (range(0x3150, 0x5FFF), range(0x7100, 0x7300), range(0x7830, 0x79FF))
"""AMD/ATI device numbers before unified shaders: Rage to R500 and their chipset variants (pci.ids). Servers
carry such chips for their console, ES1000 (515e) above all; nothing can be computed on them."""


class Role(Enum):
    """What a function does in a host."""

    GPU = "gpu"
    DISPLAY = "display"
    NETWORK = "network"
    SWITCH = "nvswitch"
    BRIDGE = "bridge"
    OTHER = "other"
    UNKNOWN = "unknown"


def role(class_code: int, vendor: int, device: int) -> Role:
    """Return the role of a function.

    Parameters
    ----------
    class_code
        Class and subclass, 16 bits: ``0x0302`` is a 3D controller.
    """
    if class_code == 0 and vendor == 0:
        return Role.UNKNOWN
    if vendor == NVIDIA and class_code == _OTHER_BRIDGE and device in _NVSWITCHES:
        return Role.SWITCH
    kind = class_code >> 8
    if kind in (_DISPLAY, _PROCESSING):
        return _display_role(kind, vendor, device)
    if kind == _NETWORK:
        return Role.NETWORK
    return Role.BRIDGE if class_code == 0x0604 else Role.OTHER


def _display_role(kind: int, vendor: int, device: int) -> Role:
    """GPUs are of NVIDIA and AMD; a VGA chip of another maker, or one for the console, is a display."""
    if vendor not in (NVIDIA, AMD):
        return Role.DISPLAY if kind == _DISPLAY else Role.OTHER
    if vendor == AMD and any(device in old for old in _FIXED_FUNCTION):
        return Role.DISPLAY
    return Role.GPU
