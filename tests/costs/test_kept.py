"""Results kept by the identity of their arguments."""

from __future__ import annotations

from planner.costs.kept import kept


def test_the_same_objects_are_computed_once() -> None:
    """Equal strings count as one; equal but other objects do not, as documents may differ in a leaf."""
    calls: list[str] = []

    @kept
    def told(_: list[int], name: str) -> int:
        calls.append(name)
        return len(calls)

    first, second = [1], [1]
    assert told(first, "vllm") == told(first, "".join(["vl", "lm"])) == 1
    assert told(second, "vllm") == 2
    assert told(first, "sglang") == 3
    assert told(first, "vllm") == 1
