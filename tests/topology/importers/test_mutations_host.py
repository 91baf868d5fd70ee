"""Damaged dumps of hosts and fabrics: a typed error, a remark, or the same view as before."""

from __future__ import annotations

import random
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlannerError
from planner.topology.importers.detect import read_text
from planner.topology.importers.views import FabricView, HostView
from tests.topology.importers.samples_host import (
    LSCPU,
    LSCPU_TABLE,
    NUMACTL,
    OLD_HWLOC,
    RISCV,
    SLURM,
    SLURM_BLOCKS,
    SLURM_YAML,
    TOPOGRAPH,
    hwloc,
    ibnet,
    k8s_nodes,
)
from tests.topology.importers.test_mutations import MUTATIONS

SAMPLES = {
    "hwloc": hwloc(), "hwloc 1": OLD_HWLOC, "lscpu": LSCPU, "lscpu -p": LSCPU + LSCPU_TABLE, "riscv": RISCV,
    "numactl": NUMACTL, "ibnetdiscover": ibnet(), "slurm tree": SLURM, "slurm blocks": SLURM_BLOCKS,
    "slurm yaml": SLURM_YAML, "topograph": TOPOGRAPH, "kubernetes": k8s_nodes(),
}  # fmt: skip
WORDS = frozenset({"cpu", "vendor", "remarks"})
"""Names of products are words: nothing tells that one of them was changed."""


def statement(view: HostView | FabricView) -> dict[str, object]:
    """Return what a view says, names of products aside."""
    return {one.name: getattr(view, one.name) for one in fields(view) if one.name not in WORDS}


@pytest.mark.parametrize("kind", SAMPLES)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=200)
def test_damage_is_refused_or_remarked_or_harmless(kind: str, seed: int) -> None:
    """One damage gives a typed error, a remark that was not there, or the same view."""
    truth = read_text(SAMPLES[kind], kind)
    rng = random.Random(seed)
    try:
        view = read_text(rng.choice(MUTATIONS)(SAMPLES[kind], rng), kind)
    except PlannerError:
        return
    new = {remark.text for remark in view.remarks} - {remark.text for remark in truth.remarks}
    assert new or statement(view) == statement(truth)


@pytest.mark.parametrize("kind", SAMPLES)
@given(seed=st.integers(0, 2**32), steps=st.integers(2, 6))
@settings(max_examples=40)
def test_no_amount_of_damage_crashes(kind: str, seed: int, steps: int) -> None:
    """Several damages raise nothing but the typed error."""
    rng, text = random.Random(seed), SAMPLES[kind]
    try:
        for _ in range(steps):
            text = rng.choice(MUTATIONS)(text, rng)
    except (IndexError, ValueError):  # too little is left to damage further
        return
    try:
        read_text(text, kind)
    except PlannerError:
        return


@pytest.mark.parametrize("depth", [199, 100_000])
def test_deep_nesting_is_refused_quickly(depth: int) -> None:
    """Objects inside one another without end neither crash nor hang."""
    group = '<object type="Group" cpuset="0x1">'
    text = (
        f"<topology>{group.replace('Group', 'Machine')}{group * depth}{'</object>' * (depth + 1)}</topology>"
    )
    try:
        read_text(text, "deep.xml")
    except PlannerError:
        return
    assert depth < 200
