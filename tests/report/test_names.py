"""Folded names stand for exactly the names they were made from."""

import re

from hypothesis import given
from hypothesis import strategies as st

from planner.report.names import count, fold, natural
from planner.schema import expand

NAMES = st.lists(st.from_regex(r"(node|gpu)-[0-9]{1,2}(/gpu[0-9])?", fullmatch=True), min_size=1, max_size=20)


@given(NAMES)
def test_folding_keeps_the_names(names: list[str]) -> None:
    """Expanding every pattern gives back the set of names."""
    patterns = re.split(r", (?![0-9])", fold(names, most=100))
    assert sorted(name for pattern in patterns for name in expand(pattern)) == sorted(set(names))


def test_grids_fold_in_every_number() -> None:
    """Nodes and parts fold together when every combination is there."""
    names = [f"tray-{t}/gpu{g}" for t in range(18) for g in range(4)]
    assert fold(names) == "tray-[0-17]/gpu[0-3]"
    assert fold(names[:-1]).endswith("more")


def test_padding_is_kept() -> None:
    """Zeros in front stay, and names with and without them are not folded together."""
    assert fold([f"n{i:03d}" for i in range(8, 12)]) == "n[008-011]"
    assert fold(["n0", "n00"]) == "n0, n00"


def test_numbers_sort_as_numbers() -> None:
    """leaf-10 comes after leaf-9."""
    assert sorted(["leaf-10", "leaf-9", "leaf-1"], key=natural) == ["leaf-1", "leaf-9", "leaf-10"]


def test_counts_have_plurals() -> None:
    """One node, two nodes."""
    assert (count(1, "node"), count(2048, "node")) == ("1 node", "2,048 nodes")
