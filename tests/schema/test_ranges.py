from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.schema import compress, expand


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("node", ["node"]),
        ("node-[0-3]", ["node-0", "node-1", "node-2", "node-3"]),
        ("gpu[0-1,6]", ["gpu0", "gpu1", "gpu6"]),
        ("gpu[6,0]", ["gpu6", "gpu0"]),
        ("n[008-011]", ["n008", "n009", "n010", "n011"]),
        ("n[0-10].x", [f"n{i}.x" for i in range(11)]),
        ("r[0-1]n[0-1]", ["r0n0", "r0n1", "r1n0", "r1n1"]),
        ("[1-2]", ["1", "2"]),
        ("n[5-5]", ["n5"]),
        ("n[ 1 , 2 ]", ["n1", "n2"]),
    ],
)
def test_expand(pattern: str, names: list[str]) -> None:
    """Ranges count up, zeros in front stay, the last bracket runs fastest."""
    assert expand(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("n[3-1]", "backwards"),
        ("n[0-7", "unbalanced"),
        ("n0-7]", "unbalanced"),
        ("n[[0-7]]", "unbalanced"),
        ("n[]", "not a number or a range"),
        ("n[a-c]", "not a number or a range"),
        ("n[1-2-3]", "not a number or a range"),
        ("n[-1]", "not a number or a range"),
        ("n[٣]", "not a number or a range"),
        ("n[001-5]", "mixes widths"),
        ("n[1-010]", "mixes widths"),
        ("n[0-1000000]", "more than 1000000 names"),
        ("n[0-999][0-999][0-9]", "more than 1000000 names"),
        ("n[0-999999999999999999]", "more than 1000000 names"),
    ],
)
def test_expand_refuses_what_is_unclear_or_endless(pattern: str, complaint: str) -> None:
    """The message names the pattern."""
    with pytest.raises(ValueError, match=complaint):
        expand(pattern)


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        ([], []),
        (["a"], ["a"]),
        (["n0", "n1", "n2"], ["n[0-2]"]),
        (["n0", "n2", "n3"], ["n0", "n[2-3]"]),
        (["n2", "n1"], ["n2", "n1"]),
        (["n08", "n09", "n10"], ["n[08-10]"]),
        (["n9", "n10"], ["n[9-10]"]),
        (["n09", "n9"], ["n09", "n9"]),
        (["a0", "b1"], ["a0", "b1"]),
        (["n0-x", "n1-x"], ["n[0-1]-x"]),
        (["n99", "n100"], ["n[99-100]"]),
    ],
)
def test_compress(names: list[str], patterns: list[str]) -> None:
    """Runs are folded and the order is kept."""
    assert compress(names) == patterns


@given(st.lists(st.from_regex(r"[a-b]{0,2}[0-9]{0,3}[.x]{0,2}[0-9]{0,2}", fullmatch=True), max_size=12))
def test_compressed_names_expand_to_the_same_list(names: list[str]) -> None:
    """For any names in any order."""
    assert [name for pattern in compress(names) for name in expand(pattern)] == names


@given(st.integers(0, 10**19), st.integers(1, 30), st.integers(0, 20))
def test_long_runs_expand_to_the_same_list(first: int, count: int, width: int) -> None:
    """With and without zeros in front, across powers of ten, beyond what a range may hold."""
    names = [f"n{number:0{width}d}" for number in range(first, first + count)]
    assert [name for pattern in compress(names) for name in expand(pattern)] == names


def test_names_with_brackets_cannot_be_compressed() -> None:
    """They would expand to something else."""
    with pytest.raises(ValueError, match="holds a bracket"):
        compress(["n[0]"])
