from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field, ValidationError

from planner import schema, units
from planner.schema.quantities import quantity_json_schema
from planner.schema.records import DOCUMENT_CONTEXT


class Everything(schema.Record):
    size: schema.Bytes = 1.0
    rate: Annotated[schema.BytesPerSecond, Field(gt=0)] = 1.0
    time: schema.Seconds = 1.0
    speed: schema.FlopsPerSecond = 1.0
    work: schema.Flops = 1.0
    clock: schema.Hertz = 1.0
    power: schema.Watts = 1.0
    arrivals: schema.PerSecond = 1.0
    length: schema.Tokens = 1.0
    share: schema.Ratio = 1.0
    price: schema.UsdPerHour = 1.0
    number: schema.Count = 1


TEXTS = {
    "size": ("80 GiB", 80 * 2.0**30),
    "rate": ("900 GB/s", 900e9),
    "time": ("350 ns", 350e-9),
    "speed": ("66.9 TFLOP/s", 66.9e12),
    "work": ("2 GFLOP", 2e9),
    "clock": ("2.6 GHz", 2.6e9),
    "power": ("700 W", 700.0),
    "arrivals": ("5 /s", 5.0),
    "length": ("4096", 4096.0),
    "share": ("85 %", 0.85),
    "price": ("98.32 USD/h", 98.32),
}


@pytest.mark.parametrize(("field", "text", "value"), [(name, *pair) for name, pair in TEXTS.items()])
def test_text_from_a_document_and_numbers_from_python_meet(field: str, text: str, value: float) -> None:
    """Both roads lead to the same SI float."""
    stated = Everything.model_validate({field: text}, context=DOCUMENT_CONTEXT)
    assert stated == Everything.model_validate({field: value})
    assert getattr(stated, field) == value


@pytest.mark.parametrize("field", sorted(set(TEXTS) - {"length", "share"}))
def test_a_document_may_not_state_bare_numbers(field: str) -> None:
    """Except 0, which is 0 in every unit."""
    with pytest.raises(ValidationError, match="has no unit"):
        Everything.model_validate({field: 5}, context=DOCUMENT_CONTEXT)


def test_constraints_apply_after_the_unit() -> None:
    """A bound on a field is a bound on the SI value."""
    assert Everything.model_validate({"size": 0}, context=DOCUMENT_CONTEXT).size == 0
    with pytest.raises(ValidationError, match="greater than 0"):
        Everything(rate=0.0)


def test_every_quantity_returns_from_its_json_form() -> None:
    """What is written to a document reads back equal, from text."""
    record = Everything(**{name: value for name, (_, value) in TEXTS.items()}, number=7)
    written = record.model_dump(mode="json")
    assert Everything.model_validate(written, context=DOCUMENT_CONTEXT) == record
    assert written["size"] == "80 GiB"
    assert written["share"] == 0.85
    assert written["length"] == 4096


def test_python_dumps_keep_numbers() -> None:
    """Only JSON form is text."""
    assert Everything(rate=5e9).model_dump()["rate"] == 5e9


def test_numpy_numbers_are_numbers() -> None:
    """Results of vectorised formulas go into records as they are, and become plain floats."""
    record = Everything.model_validate({"size": np.float64(5), "time": np.float32(2), "number": 3})
    assert (type(record.time), record.time, record.size) == (float, 2.0, 5.0)


@pytest.mark.parametrize("number", [-1, 1.0, "1", True])
def test_a_count_is_a_whole_number(number: Any) -> None:
    """Nothing else is counted."""
    with pytest.raises(ValidationError):
        Everything(number=number)


@pytest.mark.parametrize("dimension", sorted(units.DIMENSIONS))
def test_the_json_schema_describes_unit_and_examples(dimension: str) -> None:
    """An editor can show what to write."""
    described = quantity_json_schema(dimension)
    assert described["examples"]
    assert units.DIMENSIONS[dimension].name in described["description"]
    for example in described["examples"]:
        units.parse(example, dimension)
