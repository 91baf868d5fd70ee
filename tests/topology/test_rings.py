"""Sets of GPUs on a mesh of direct links, against a count of rings that share no link."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest

from planner.schema import loads
from planner.topology import Topology, TopologyDocument, load_topology, resolve
from planner.topology.rings import Mesh, machine_mesh

SINGLE = 24.2e9
DOUBLE_PAIRS = ("0,0,1,1,2,4,5,6", "3,4,2,5,3,7,6,7")
SINGLE_PAIRS = ("0,0,1,2,3,4,4,5", "1,2,3,6,7,5,6,7")


def pairs(text: tuple[str, str]) -> list[tuple[int, int]]:
    """Return pairs of GPU numbers."""
    left, right = (map(int, part.split(",")) for part in text)
    return list(zip(left, right, strict=True))


def without(repository: Path, pair: tuple[int, int]) -> Topology:
    """Return the DGX-1 with the NVLinks of one pair down."""
    text = (repository / "topologies" / "dgx1-v100.yaml").read_text(encoding="utf-8")
    for ends in (DOUBLE_PAIRS, SINGLE_PAIRS):
        left = [each for each in pairs(ends) if each != pair]
        new = [",".join(str(each[side]) for each in left) for side in (0, 1)]
        old = f'["gpu[{ends[0]}]", "gpu[{ends[1]}]"]'
        assert old in text
        text = text.replace(old, f'["gpu[{new[0]}]", "gpu[{new[1]}]"]')
    return resolve(loads(text, TopologyDocument))


def mesh_of(topology: Topology) -> Mesh:
    """Return the mesh of the only machine."""
    mesh = machine_mesh(topology.machine_types[0])
    assert mesh is not None
    return mesh


def link_counts(down: tuple[int, int] | None) -> dict[frozenset[int], int]:
    """Return the number of NVLinks of every pair."""
    counts = {frozenset(pair): 2 for pair in pairs(DOUBLE_PAIRS)}
    counts |= {frozenset(pair): 1 for pair in pairs(SINGLE_PAIRS)}
    return {pair: count for pair, count in counts.items() if pair != frozenset(down or ())}


def orders(members: tuple[int, ...]) -> Iterator[tuple[frozenset[int], ...]]:
    """Yield the links of every ring order, each ring once."""
    first, *others = members
    for order in permutations(others):
        if order[0] < order[-1]:
            ring = (first, *order, first)
            yield tuple(frozenset(ring[step : step + 2]) for step in range(len(members)))


def most_rings(members: tuple[int, ...], links: dict[frozenset[int], int]) -> int:
    """Return how many rings through all members share no NVLink, by trying all."""
    usable = [ring for ring in orders(members) if all(link in links for link in ring)]

    @cache
    def walk(start: int, left: tuple[int, ...]) -> int:
        best = 0
        for number in range(start, len(usable)):
            rest = dict(zip(links, left, strict=True))
            if all(rest[link] for link in usable[number]):
                for link in usable[number]:
                    rest[link] -= 1
                best = max(best, 1 + walk(number, tuple(rest.values())))
        return best

    return walk(0, tuple(links.values()))


@pytest.mark.parametrize("down", [None, (0, 3), (0, 1), (2, 6)])
def test_rates_of_all_sets_are_those_of_the_most_disjoint_rings(
    repository: Path, down: tuple[int, int] | None
) -> None:
    """For 2, 4 and 8 GPUs every set has the rate that a count of single links in disjoint rings gives."""
    mesh = mesh_of(load_topology("dgx1-v100") if down is None else without(repository, down))
    links = link_counts(down)
    for pair in combinations(range(8), 2):
        if frozenset(pair) in links:
            assert mesh.rate(pair) == pytest.approx(SINGLE * links[frozenset(pair)])
    for members in combinations(range(8), 4):
        count = most_rings(members, links)
        if count:
            assert mesh.rate(members) == pytest.approx(2 * SINGLE * count)
        else:
            assert mesh.rate(members) <= 2 * SINGLE
    assert mesh.rate(range(8)) == pytest.approx(2 * SINGLE * most_rings(tuple(range(8)), links))


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 8])
def test_the_best_set_is_the_best_of_all(size: int) -> None:
    """No set of the size has a higher rate, and of equals the first is taken."""
    mesh = mesh_of(load_topology("dgx1-v100"))
    chosen, rate = mesh.best(size)
    rates = {members: mesh.rate(members) for members in combinations(range(8), size)}
    assert rate == rates[chosen] == max(rates.values())
    assert chosen == min(members for members, other in rates.items() if other == rate)


def test_a_faster_link_never_lowers_a_rate() -> None:
    """Doubling any one link of the mesh keeps or raises the rate of every set of four."""
    mesh = mesh_of(load_topology("dgx1-v100"))
    for left, right in pairs(SINGLE_PAIRS):
        links = mesh.links.copy()
        links[left, right] = links[right, left] = 2 * SINGLE
        faster = Mesh(links, np.maximum(mesh.routes, links))
        for members in combinations(range(8), 4):
            assert faster.rate(members) >= mesh.rate(members) * (1 - 1e-12)


def test_machines_without_direct_links_have_no_mesh() -> None:
    """Behind a switch sets do not differ; where all pairs are alike they do not either, but rings add up."""
    for name in ("dgx-h100", "pcie-4090x8"):
        assert load_topology(name).hierarchy.mesh is None
    for name in ("dgx1-v100", "mi300x-8", "gh200-quad"):
        assert load_topology(name).hierarchy.mesh is not None


@pytest.mark.parametrize("number", range(3, 9))
def test_equal_pairs_carry_as_many_rings_as_fit(number: int) -> None:
    """Of n - 1 links a GPU, two a ring: so many rings without a common link exist (Walecki, 1892)."""
    links = np.full((number, number), SINGLE)
    np.fill_diagonal(links, 0.0)
    expected = 2 * ((number - 1) // 2) * SINGLE
    assert Mesh(links, links).rate(range(number)) == pytest.approx(expected)


@pytest.mark.parametrize("number", range(4, 9))
def test_a_lost_link_never_raises_a_rate(number: int) -> None:
    """A full mesh less one link carries at most what the full mesh does."""
    links = np.full((number, number), SINGLE)
    np.fill_diagonal(links, 0.0)
    cut = links.copy()
    cut[0, 1] = cut[1, 0] = 0.0
    whole = Mesh(links, links).rate(range(number))
    assert Mesh(cut, np.maximum(cut, 1e9)).rate(range(number)) <= whole * (1 + 1e-12)
