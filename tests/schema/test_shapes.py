from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from planner.schema import Record
from planner.schema.shapes import Follower, Member


@dataclass(frozen=True)
class Point:
    x: int


class Cat(Record):
    kind: Literal["cat"]
    lives: int
    cat: int = 0


class Dog(Record):
    kind: Literal["dog"]
    tricks: tuple[str, ...]


class Tree(Record):
    size: int
    children: tuple[Tree, ...] = ()


class Zoo(Record):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    pets: dict[str, list[Annotated[Cat | Dog, Field(discriminator="kind")]]] = Field(default_factory=dict)
    loose: list[int] | Cat | str = ""
    mixed: Annotated[Cat | Dog, Field(discriminator="kind")] | int = 0
    tree: Tree | None = None
    pair: tuple[int, Tree] | None = None
    point: Point | None = None
    renamed: int = Field(default=0, alias="re-named")


@pytest.mark.parametrize(
    ("data", "steps"),
    [
        ({"pet": {"kind": "cat", "lives": "x"}}, ("pet", "lives")),
        ({"pet": {"kind": "cat", "lives": 1, "cat": "x"}}, ("pet", "cat")),
        ({"pets": {"cat": [{"kind": "dog", "tricks": ["a", 1]}]}}, ("pets", "cat", 0, "tricks", 1)),
        ({"tree": {"size": 1, "children": [{"size": 1, "children": [{"size": "x"}]}]}},
         ("tree", "children", 0, "children", 0, "size")),
        ({"pair": [1, {"size": "x"}]}, ("pair", 1, "size")),
        ({"point": {"x": "y"}}, ("point", "x")),
        ({"re-named": "x"}, ("re-named",)),
    ],
)  # fmt: skip
def test_tags_of_unions_are_told_from_keys(data: dict[str, Any], steps: tuple[str | int, ...]) -> None:
    """A location becomes exactly the keys and indices of the document, even when a tag is also a key."""
    with pytest.raises(ValidationError) as caught:
        Zoo.model_validate(data)
    (error,) = caught.value.errors()
    assert Follower(Zoo.__pydantic_core_schema__).follow(error["loc"]).steps == steps


def test_every_form_of_a_value_is_followed() -> None:
    """Each member of an undiscriminated union complains; all point into the same value."""
    with pytest.raises(ValidationError) as caught:
        Zoo.model_validate({"loose": {"kind": "cat", "lives": "x"}, "mixed": {"kind": "dog", "tricks": [1]}})
    follower = Follower(Zoo.__pydantic_core_schema__)
    trails = {follower.follow(error["loc"]).steps for error in caught.value.errors()}
    assert trails == {("loose",), ("loose", "lives"), ("mixed",), ("mixed", "tricks", 0)}


def test_the_trail_knows_the_fields_and_the_form() -> None:
    """A suggestion is made among the fields of the form that was meant."""
    trail = Follower(Zoo.__pydantic_core_schema__).follow(("pet", "dog", "trick"))
    assert trail.fields == ("kind", "tricks")
    assert trail.member == Member(("pet",), "dog")


def test_an_unknown_location_is_not_fatal() -> None:
    """A location that leads nowhere keeps its steps."""
    assert Follower(Zoo.__pydantic_core_schema__).follow(("nowhere", 3)).steps == ("nowhere", 3)
