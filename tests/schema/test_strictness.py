from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import Field, ValidationError

from planner.schema import Record


class Numbers(Record):
    whole: int = 1
    real: float = 1.0
    maybe: int | None = None
    many: tuple[int, ...] = ()
    table: dict[int, float] = Field(default_factory=dict)
    either: int | str | bool = 1
    nested: tuple[dict[str, list[int]], ...] = ()
    metadata: int = 1
    type: int = 1


class Outer(Record):
    inner: Numbers = Numbers()


class Tree(Record):
    size: int
    children: tuple[Tree, ...] = ()


@pytest.mark.parametrize("look_alike", [True, "1"])
@pytest.mark.parametrize("field", ["whole", "real", "maybe", "metadata", "type"])
def test_numbers_are_neither_truth_values_nor_text(field: str, look_alike: object) -> None:
    """A slip in a document does not become a 1."""
    with pytest.raises(ValidationError, match=f"{field}\n"):
        Numbers.model_validate({field: look_alike})


@pytest.mark.parametrize(
    "data",
    [{"many": [True]}, {"table": {"1": True}}, {"nested": [{"a": ["1"]}]}, {"nested": [{"a": [True]}]}],
)
def test_numbers_inside_containers_are_checked(data: dict[str, Any]) -> None:
    """At any depth, also in models inside models."""
    for model, wrapped in ((Numbers, data), (Outer, {"inner": data})):
        with pytest.raises(ValidationError):
            model.model_validate(wrapped)


def test_recursive_models_are_checked() -> None:
    """A model that contains itself is no exception."""
    assert Tree.model_validate({"size": 1, "children": [{"size": 2}]}).children[0].size == 2
    for wrong in ({"size": True}, {"size": 1, "children": [{"size": "2"}]}):
        with pytest.raises(ValidationError):
            Tree.model_validate(wrong)


def test_keys_and_unions_stay_as_they_were() -> None:
    """Keys are always text in a document; a union may hold text and truth values."""
    assert Numbers.model_validate({"table": {"8": 0.5}}).table == {8: 0.5}
    for value in (5, "5", True):
        found = Numbers.model_validate({"either": value}).either
        assert (found, type(found)) == (value, type(value))


def test_python_numbers_pass() -> None:
    """NumPy's whole numbers and floats are numbers."""
    numbers = Numbers(whole=np.int64(5), real=np.float64(2))  # type: ignore[arg-type]
    assert (numbers.whole, numbers.real) == (5, 2.0)
    assert Numbers(real=3).real == 3.0
