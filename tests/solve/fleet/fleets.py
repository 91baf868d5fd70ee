"""Random small fleets, and a walk over every placement of one with the judge alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations, product

from hypothesis import strategies as st

from planner.placement.fleet import (
    Assignment,
    Choice,
    FleetJob,
    FleetProblem,
    Part,
    Shape,
    check_fleet,
    fleet_cost,
)
from planner.placement.slices import Cut, plain_profiles
from planner.schema import BandwidthFigure, BytesFigure, LatencyFigure, RatioFigure
from planner.topology import (
    Fabric,
    FabricLayout,
    Gpu,
    Machine,
    Nic,
    NodeGroup,
    NumaDomain,
    Topology,
    TopologyDocument,
    find_device,
    resolve,
)

PROFILES = ["1g.20gb", "3g.40gb", "4g.40gb"]
COUNTS = {"whole": 2, "cut": 1}
CORES = 6


@cache
def cluster() -> Topology:
    """Return two nodes of two GPUs and one node of a single GPU, six cores each."""

    def machine(name: str, gpus: int) -> Machine:
        numa = NumaDomain(
            name="cpu", arch="riscv64", cores=CORES, core_speed=RatioFigure.of(1.0),
            memory=BytesFigure.of(64e9), memory_bandwidth=BandwidthFigure.of(100e9),
        )  # fmt: skip
        own = [Gpu(name=f"gpu{index}", device="h100-sxm-80", numa="cpu") for index in range(gpus)]
        nic = Nic(name="port", numa="cpu", bandwidth=BandwidthFigure.of(20e9))
        return Machine(name=name, numa=[numa], gpus=own, nics=[nic])

    document = TopologyDocument(
        schema_="topology/1", name="small", machines=[machine(name, gpus) for name, gpus in COUNTS.items()],
        nodes=[NodeGroup(name="w-[0-1]", machine="whole"), NodeGroup(name="c-0", machine="cut")],
        fabric=Fabric(layout=FabricLayout(shape="single-switch", hop_latency=LatencyFigure.of(1e-6))),
    )  # fmt: skip
    return resolve(document)


def shapes() -> list[Shape]:
    """Return every shape that a job of a random fleet may have."""
    return [
        Shape("whole", 1), Shape("whole", 2), Shape("whole", 1, 2), Shape("cut", 1),
        *(Shape("cut", 1, parts, profile) for parts in (1, 2) for profile in PROFILES),
    ]  # fmt: skip


@st.composite
def fleets(draw: st.DrawFn) -> FleetProblem:
    """Draw a fleet of two to four jobs."""
    names = [f"job{number}" for number in range(draw(st.integers(2, 4)))]
    jobs = []
    for name in names:
        some = draw(st.lists(st.sampled_from(shapes()), min_size=1, max_size=3, unique=True))
        costs = draw(st.lists(st.integers(10, 60), min_size=len(some), max_size=len(some)))
        choices = tuple(
            Choice(shape, cost / 10, cost / 10, draw(st.sampled_from([1, 2, 4])))
            for shape, cost in zip(some, costs, strict=True)
        )
        apart = draw(st.sets(st.sampled_from(names), max_size=1)) - {name}
        weight, spread = draw(st.sampled_from([1.0, 3.0])), draw(st.booleans())
        jobs.append(FleetJob(name, weight, choices, frozenset(apart), spread))
    return FleetProblem(cluster(), tuple(jobs), unplaced=10.0)


def places(topology: Topology, shape: Shape) -> list[Part]:
    """Return every place that one part of a shape may have."""
    found = []
    for node in topology.nodes:
        if node.machine.name != shape.machine:
            continue
        for gpus in combinations([gpu.name for gpu in node.machine.gpus], shape.gpus):
            if shape.profile is None:
                found.append(Part(node.name, gpus))
            else:
                starts = plain_profiles(find_device("h100-sxm-80"))[shape.profile].starts
                found += [Part(node.name, gpus, Cut(shape.profile, start)) for start in starts]
    return found


def assignments(job: FleetJob, topology: Topology) -> Iterator[Assignment | None]:
    """Yield everything that a job may get, and nothing."""
    yield None
    for choice in job.choices:
        for parts in combinations(places(topology, choice.shape), choice.shape.parts):
            yield Assignment(choice.shape, parts)


def least_cost(problem: FleetProblem) -> float:
    """Return the least cost over all legal placements."""
    best = float("inf")
    for choice in product(*(list(assignments(job, problem.topology)) for job in problem.jobs)):
        placement = {job.name: own for job, own in zip(problem.jobs, choice, strict=True) if own is not None}
        cost = fleet_cost(problem, placement)
        if cost < best and not check_fleet(problem, placement, cost):
            best = cost
    return best
