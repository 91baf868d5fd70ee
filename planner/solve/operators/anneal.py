"""Simulated annealing of free assignments: one group moves at a time, and only two loads change."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from planner.solve.operators.chains import Machine
from planner.solve.operators.reduce import Reduced

_SHARPNESS = 24.0
"""Power of the loads whose sum is lowered: high enough that the busiest device counts most."""


class Placed:
    """An assignment of groups to devices (the last is the CPU) with its loads kept up to date."""

    def __init__(self, reduced: Reduced, machine: Machine, devices: Sequence[int]) -> None:
        self.cpu_device = machine.num_accelerators
        self.work = [reduced.accelerator.tolist()] * machine.num_accelerators + [reduced.cpu.tolist()]
        self.size = reduced.size.tolist()
        self.room = [machine.memory * (1 + 1e-12)] * machine.num_accelerators + [math.inf]
        self.pins_of: list[list[tuple[int, float, int]]] = [[] for _ in range(reduced.num_groups)]
        for number, (pins, cost) in enumerate(zip(reduced.pins, reduced.costs.tolist(), strict=True)):
            for group in pins:
                self.pins_of[group].append((number, cost, len(pins)))
        num_devices = self.cpu_device + 1
        self.count = [[0] * len(reduced.pins) for _ in range(num_devices)]
        self.load, self.held = [0.0] * num_devices, [0.0] * num_devices
        self.device = [-1] * reduced.num_groups
        for group, device in enumerate(devices):
            self.put(group, device, self.rise(group, device))

    def rise(self, group: int, device: int) -> float:
        """Return by how much the load of a device changes when it gets a group."""
        change: float = self.work[device][group]
        if device != self.cpu_device:
            count = self.count[device]
            for pin, cost, size in self.pins_of[group]:
                held = count[pin]
                if held == 0:
                    change += cost
                elif held == size - 1:
                    change -= cost
        return change

    def fall(self, group: int) -> float:
        """Return by how much the load of its device changes when a group leaves it; mostly negative."""
        device = self.device[group]
        change: float = -self.work[device][group]
        if device != self.cpu_device:
            count = self.count[device]
            for pin, cost, size in self.pins_of[group]:
                held = count[pin]
                if held == 1:
                    change -= cost
                elif held == size:
                    change += cost
        return change

    def put(self, group: int, device: int, change: float) -> None:
        """Place a group that is nowhere."""
        self.device[group] = device
        self.load[device] += change
        self.held[device] += self.size[group]
        count = self.count[device]
        for pin, _, _ in self.pins_of[group]:
            count[pin] += 1

    def take(self, group: int, change: float) -> None:
        """Take a group away from its device."""
        device = self.device[group]
        self.load[device] += change
        self.held[device] -= self.size[group]
        count = self.count[device]
        for pin, _, _ in self.pins_of[group]:
            count[pin] -= 1


def anneal(
    reduced: Reduced,
    machine: Machine,
    devices: Sequence[int],
    *,
    seed: int,
    moves: int,
    heat: float = 0.02,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[float, list[int]]:
    """Return the least busiest load found near an assignment, and the device of each group.

    Parameters
    ----------
    devices
        Where to start; the CPU is the number after the last accelerator.
    moves
        Number of moves to try.
    heat
        First temperature, as a share of the busiest load; it falls by a factor of 100.
    """
    rng = random.Random(seed)
    state = Placed(reduced, machine, devices)
    near = _neighbours(reduced)
    usable = machine.num_accelerators + machine.has_cpu
    best, best_devices = max(state.load), list(state.device)
    groups = range(reduced.num_groups)
    unit = best
    power = _SHARPNESS
    for step in range(moves):
        if step % 1024 == 0:
            if stopped():
                break
            warmth = heat * 0.01 ** (step / moves) * power
            unit = max(state.load)
        group = rng.choice(groups)
        source = state.device[group]
        target = state.device[rng.choice(near[group])] if rng.random() < 0.8 else rng.randrange(usable)
        if target == source or state.held[target] + state.size[group] > state.room[target]:
            continue
        fall, rise = state.fall(group), state.rise(group, target)
        a, b = state.load[source], state.load[target]
        if not b + rise < 1.5 * unit:
            continue
        before = (a / unit) ** power + (b / unit) ** power
        after = (max(a + fall, 0.0) / unit) ** power + ((b + rise) / unit) ** power
        if after <= before or rng.random() < math.exp((before - after) / warmth):
            state.take(group, fall)
            state.put(group, target, rise)
            worst = max(state.load)
            if worst < best * (1 - 1e-12):
                best, best_devices = worst, list(state.device)
    return best, best_devices


def _neighbours(reduced: Reduced) -> list[list[int]]:
    found: list[set[int]] = [{group} for group in range(reduced.num_groups)]
    for pins in reduced.pins:
        for group in pins:
            found[group].update(pins)
    return [sorted(near - {group}) or [group] for group, near in enumerate(found)]
