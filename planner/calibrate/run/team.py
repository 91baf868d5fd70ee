"""Several processes that measure together: rank 0 says what to do, all do it, rank 0 gathers the times.

Rank 0 is the process of the command itself. It starts the others, unless a launcher such as ``torchrun`` did:
then every process has ``RANK`` and ``WORLD_SIZE`` in its environment, and the others call :func:`follow`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from planner.calibrate.run.backend import Backend
from planner.calibrate.torch_here import Torch
from planner.errors import CalibrationError

Order = Mapping[str, Any]
"""What every rank is to do: ``do`` names the handler, the rest are its arguments."""
PATIENCE = timedelta(seconds=45)
"""Longest wait for another process."""
STOP: Order = {"do": "stop"}


class TeamError(CalibrationError):
    """The processes could not be started or lost one another."""


@dataclass
class Member:
    """One process of a team.

    Attributes
    ----------
    kept
        What a handler keeps from one order to the next, such as the modules of a stage.
    """

    backend: Backend
    rank: int
    size: int
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def torch(self) -> Torch:
        """The module ``torch``."""
        return self.backend.torch

    @property
    def dist(self) -> Torch:
        """The module ``torch.distributed``."""
        return self.backend.torch.distributed

    def obey(self, order: Order) -> object:
        """Do what an order says; an error of torch or of the system is handed back as text."""
        from planner.calibrate.run.orders import HANDLERS

        handler: Callable[[Member, Order], object] = HANDLERS[str(order["do"])]
        try:
            return handler(self, order)
        except (RuntimeError, OSError, MemoryError, ValueError) as error:
            return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


class Team:
    """Rank 0 with its followers."""

    def __init__(self, member: Member, processes: list[subprocess.Popen[bytes]]) -> None:
        self.member, self._processes = member, processes
        self._open = True

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self.member.size

    def call(self, order: Order) -> list[Any]:
        """Let every rank do something and return what each gives, by rank.

        Raises
        ------
        RuntimeError
            If a rank failed, with its word.
        """
        dist = self.member.dist
        dist.broadcast_object_list([dict(order)], src=0)
        found = self.member.obey(order)
        gathered: list[Any] = [None] * self.size
        dist.gather_object(found, gathered, dst=0)
        for rank, one in enumerate(gathered):
            if isinstance(one, dict) and "error" in one:
                raise RuntimeError(f"rank {rank}: {one['error']}")
        return gathered

    def close(self) -> None:
        """Send the followers home; those that do not go are ended."""
        if not self._open:
            return
        self._open = False
        try:
            self.member.dist.broadcast_object_list([dict(STOP)], src=0)
            self.member.dist.destroy_process_group()
        except RuntimeError:
            pass  # a follower is gone already
        finally:
            end(self._processes)


def launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def open_team(backend: Backend, size: int) -> Team:
    """Return the team of this process: that of the launcher, or one of ``size`` new processes.

    Raises
    ------
    TeamError
        If the processes do not find one another.
    """
    if launched():
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        _join(backend, rank, size, None)
        return Team(Member(backend, rank, size), [])
    port = _free_port()
    processes = [_spawn(backend, rank, size, port) for rank in range(1, size)]
    try:
        _join(backend, 0, size, port)
    except TeamError:
        end(processes)
        raise
    return Team(Member(backend, 0, size), processes)


def follow(backend: Backend, rank: int, size: int, port: int | None = None) -> None:
    """Obey rank 0 until it stops."""
    _join(backend, rank, size, port)
    member = Member(backend, rank, size)
    while True:
        order: list[Any] = [None]
        member.dist.broadcast_object_list(order, src=0)
        if order[0]["do"] == STOP["do"]:
            break
        member.dist.gather_object(member.obey(order[0]), None, dst=0)
    member.dist.destroy_process_group()


def _join(backend: Backend, rank: int, size: int, port: int | None) -> None:
    dist = backend.torch.distributed
    names = "gloo" if backend.kind == "cpu" else "cpu:gloo,cuda:nccl"
    where = {} if port is None else {"init_method": f"tcp://127.0.0.1:{port}"}
    if port is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        dist.init_process_group(names, rank=rank, world_size=size, timeout=PATIENCE, **where)
    except (RuntimeError, ValueError, OSError) as error:
        raise TeamError(f"rank {rank} of {size} found no other process: {error}") from error


def _spawn(backend: Backend, rank: int, size: int, port: int) -> subprocess.Popen[bytes]:
    words = [backend.kind, str(rank), str(size), str(port)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "planner.calibrate.run.follower", *words]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait for processes, and end those that stay."""
    for process in processes:
        try:
            process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
