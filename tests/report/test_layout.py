"""No machine, however it is wired, has parts drawn over one another."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.report.layout import Box, lay_out
from planner.schema import presets
from planner.topology import (
    Gpu,
    Machine,
    MachineType,
    Nic,
    NodeGroup,
    Switch,
    TopologyDocument,
    load_topology,
    resolve,
)
from tests.report.machines import dgx, h100, link, numa, rate, superchip


def overlap(first: Box, second: Box) -> bool:
    return (
        first.x < second.right
        and second.x < first.right
        and first.y < second.bottom
        and second.y < first.bottom
    )


def check(machine: MachineType) -> None:
    layout = lay_out(machine)
    barred = {name for bar in layout.bars for name in bar.switches}
    parts = [*machine.numa, *machine.gpus, *machine.switches, *machine.nics]
    assert set(layout.boxes) | barred == {str(getattr(part, "name", "")) for part in parts}
    boxes = [*layout.boxes.values(), *(bar.box for bar in layout.bars)]
    assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]
    for box in [*boxes, *layout.frames]:
        assert box.x >= 0 and box.y >= 0
        assert box.right <= layout.width and box.bottom <= layout.height


def machine_type(spec: Machine) -> MachineType:
    document = TopologyDocument(name="one", machines=[spec], nodes=[NodeGroup(name="n", machine=spec.name)])
    return resolve(document, {"h100-sxm": h100()}).nodes[0].machine


@pytest.mark.parametrize("name", presets.names("topologies"))
def test_shipped_machines_do_not_overlap(name: str) -> None:
    """Every part of every preset has its own place inside the picture."""
    for machine in load_topology(name).machine_types:
        check(machine)


@pytest.mark.parametrize("spec", [dgx(), superchip(2), superchip(8), superchip(36)])
def test_large_machines_break_into_lines(spec: Machine) -> None:
    """A machine of many sockets goes on in a further line, still without overlap."""
    machine = machine_type(spec)
    check(machine)
    assert lay_out(machine).width < 1200


@st.composite
def random_machines(draw: st.DrawFn) -> Machine:
    sockets = draw(st.integers(1, 4))
    switches = draw(st.integers(0, 5))
    gpus, nics = draw(st.integers(0, 8)), draw(st.integers(0, 5))
    homes = [f"numa{i}" for i in range(sockets)]
    names = [f"sw{i}" for i in range(switches)]
    links = [
        link(name, draw(st.sampled_from([*homes, *names[:i]])), "pcie", 50) for i, name in enumerate(names)
    ]
    for name in [*(f"gpu{i}" for i in range(gpus)), *(f"nic{i}" for i in range(nics))]:
        above = draw(st.sampled_from([*homes, *names, ""]))
        links += [link(name, above, "pcie", 50)] if above else []
    if gpus > 1 and draw(st.booleans()):
        links.append(link("gpu0", f"gpu{gpus - 1}", "nvlink", 100))
    return Machine(
        name="random",
        numa=[numa(name) for name in homes],
        gpus=[Gpu(name=f"gpu{i}", device="h100-sxm", numa=draw(st.sampled_from(homes))) for i in range(gpus)],
        switches=[Switch(name=name, kind="pcie") for name in names],
        nics=[
            Nic(name=f"nic{i}", numa=draw(st.sampled_from(homes)), bandwidth=rate(50)) for i in range(nics)
        ],
        links=links,
    )


@given(random_machines())
def test_any_tree_of_switches_is_laid_out(spec: Machine) -> None:
    """Nested switches, parts without links and odd counts never overlap and are never lost."""
    check(machine_type(spec))
