"""The one door to torch: imported when it is needed, with a clear word where it is missing or broken."""

from __future__ import annotations

import importlib
from typing import Any

from planner.errors import CalibrationError

Torch = Any
"""The module ``torch``; it is optional, so nothing of it is known when types are checked."""


class TorchMissingError(CalibrationError):
    """torch is not installed; everything but measuring works without it."""

    def __init__(self, reason: str = "") -> None:
        because = f" ({reason})" if reason else ""
        super().__init__(
            f"measuring needs torch, which cannot be imported{because}; install it with "
            "pip install 'planner[torch]' (for a host without GPU the CPU build of torch is enough)"
        )


class DeviceUnusableError(CalibrationError):
    """torch is there, the device is not, or its driver does not fit."""


def load_torch() -> Torch:
    """Return the module ``torch``.

    Raises
    ------
    TorchMissingError
        If it cannot be imported.
    """
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError) as error:
        raise TorchMissingError(str(error)) from error


def require_cuda(torch: Torch) -> None:
    """Make sure that torch can use a GPU.

    Raises
    ------
    DeviceUnusableError
        With what torch says: no GPU, a driver too old, no permission on the device.
    """
    remedy = "use --device cpu, or repair the driver"
    if torch.version.cuda is None and torch.version.hip is None:
        raise DeviceUnusableError(
            f"this torch ({torch.__version__}) was built without GPU support; get another, or {remedy}"
        )
    try:
        torch.cuda.init()
        count = torch.cuda.device_count()
    except (RuntimeError, AssertionError, OSError) as error:
        raise DeviceUnusableError(f"torch cannot use a GPU here: {_first_line(error)}; {remedy}") from error
    if not count:
        raise DeviceUnusableError(f"torch finds no GPU here; {remedy}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or of Python says that memory ran out."""
    text = str(error).casefold()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def reason_of(error: BaseException) -> str:
    """Return why an item could not be measured, in one line."""
    if is_out_of_memory(error):
        return f"out of memory: {_first_line(error)}" if str(error) else "out of memory"
    if isinstance(error, PermissionError):
        return f"no permission: {_first_line(error)}"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
