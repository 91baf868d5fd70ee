"""The door to torch: what is missing or broken is said with a way out."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from planner.calibrate.torch_here import (
    DeviceUnusableError,
    TorchMissingError,
    is_out_of_memory,
    load_torch,
    reason_of,
    require_cuda,
)


def torch_that(error: Exception | None = None, count: int = 0, cuda: str | None = "12.8") -> Any:
    """Return a stand-in whose GPU support fails as told."""

    def init() -> None:
        if error is not None:
            raise error

    return SimpleNamespace(
        __version__="2.13", version=SimpleNamespace(cuda=cuda, hip=None),
        cuda=SimpleNamespace(init=init, device_count=lambda: count),
    )  # fmt: skip


def test_missing_torch_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra of the package is named."""

    def missing(name: str) -> object:
        raise ImportError("No module named 'torch'")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(TorchMissingError, match=r"pip install 'planner\[torch\]'"):
        load_torch()


@pytest.mark.parametrize(
    ("torch", "words"),
    [
        (
            torch_that(RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")),
            "too old",
        ),
        (torch_that(PermissionError(13, "Permission denied", "/dev/nvidiactl")), "Permission denied"),
        (torch_that(), "no GPU"),
        (torch_that(cuda=None), "without GPU support"),
    ],
)
def test_an_unusable_gpu_is_a_clear_error(torch: Any, words: str) -> None:
    """Wrong driver, no permission, no GPU, a build without support: each with a remedy."""
    with pytest.raises(DeviceUnusableError, match=words) as caught:
        require_cuda(torch)
    assert "--device cpu" in str(caught.value)


def test_a_usable_gpu_is_no_error() -> None:
    """One GPU and a driver that fits."""
    require_cuda(torch_that(count=1))


def test_memory_that_ran_out_is_told_from_other_errors() -> None:
    """By what torch, the allocator and Python say."""
    assert is_out_of_memory(RuntimeError("CUDA out of memory. Tried"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert reason_of(RuntimeError("first\nsecond")) == "first"
