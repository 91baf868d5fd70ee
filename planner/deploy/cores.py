"""Lists of core numbers as the operating system writes them: ``0-7,16-23``."""

from __future__ import annotations

import re

from planner.deploy.errors import DeployError
from planner.placement.bindings import core_numbers
from planner.topology.machine import MachineType

_ITEM = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
MOST_CORES = 65536


def parse_cores(text: str) -> frozenset[int]:
    """Return the cores of a list; an empty text names none.

    Raises
    ------
    DeployError
        If the text is not a list of cores.
    """
    cores: set[int] = set()
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        match = _ITEM.fullmatch(item)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last < first or last - first >= MOST_CORES:
            raise DeployError(f"{text!r} is not a list of cores such as 0-7,16-23")
        cores.update(range(first, last + 1))
    return frozenset(cores)


def domain_cores(machine: MachineType) -> dict[str, frozenset[int]]:
    """Return the cores of every NUMA domain; counted up in document order where no list is stated."""
    return {domain.name: frozenset(core_numbers(machine, domain.name)) for domain in machine.numa}


def domain_number(machine: MachineType, numa: str) -> int:
    """Return the number of a NUMA domain in the system: the digits that end its name, else its position."""
    endings = [re.search(r"([0-9]{1,6})$", domain.name) for domain in machine.numa]
    numbers = [int(match[1]) for match in endings if match]
    names = [domain.name for domain in machine.numa]
    position = names.index(numa)
    return numbers[position] if len(set(numbers)) == len(names) else position
