"""Field types of quantities: text with a unit in documents, SI floats in Python."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, WithJsonSchema

from planner import units
from planner.schema.records import in_document

BARE_NUMBERS = "bare_numbers"
"""Context key that lets a document of another program state plain SI numbers."""


def read_quantity(value: object, info: ValidationInfo, dimension: str) -> float:
    """Return the SI value of a field; in a document a number without a unit is refused."""
    context: Any = info.context
    if in_document(context) and not context.get(BARE_NUMBERS):
        return units.parse(value, dimension)
    return units.parser(dimension)(value)


def write_quantity(value: float, dimension: str) -> Any:
    """Return the text of a field in a document; ratios and token counts stay numbers."""
    if units.DIMENSIONS[dimension].bare:
        return int(value) if value.is_integer() and value < 2**53 else value
    return units.dumps(value, dimension)


def quantity_json_schema(dimension: str) -> dict[str, Any]:
    """Return the JSON Schema of a quantity, with its unit and examples."""
    dim = units.DIMENSIONS[dimension]
    unit = dim.base or "1"
    accepted = ", ".join(suffix for suffix in dim.suffixes if suffix)
    described = f"A {dim.name}, text with a unit ({accepted}); SI unit: {unit}."
    text: dict[str, Any] = {"type": "string", "pattern": units.pattern(dimension)}
    number: dict[str, Any] = {"type": "number", "minimum": 0} if dim.bare else {"const": 0}
    examples = list(dim.examples)
    return {"anyOf": [text, number], "description": described, "examples": examples, "x-unit": unit}


def _reader(dimension: str) -> BeforeValidator:
    def read(value: object, info: ValidationInfo) -> float:
        return read_quantity(value, info, dimension)

    return BeforeValidator(read)


def _writer(dimension: str) -> PlainSerializer:
    def write(value: float) -> Any:  # a narrower type would be checked again for every value
        return write_quantity(value, dimension)

    return PlainSerializer(write, when_used="json")


def _schema(dimension: str) -> WithJsonSchema:
    return WithJsonSchema(quantity_json_schema(dimension))


Bytes: TypeAlias = Annotated[float, _reader("bytes"), _writer("bytes"), _schema("bytes")]
BytesPerSecond: TypeAlias = Annotated[float, _reader("bytes/s"), _writer("bytes/s"), _schema("bytes/s")]
Seconds: TypeAlias = Annotated[float, _reader("s"), _writer("s"), _schema("s")]
FlopsPerSecond: TypeAlias = Annotated[float, _reader("FLOP/s"), _writer("FLOP/s"), _schema("FLOP/s")]
Flops: TypeAlias = Annotated[float, _reader("FLOP"), _writer("FLOP"), _schema("FLOP")]
Hertz: TypeAlias = Annotated[float, _reader("Hz"), _writer("Hz"), _schema("Hz")]
Watts: TypeAlias = Annotated[float, _reader("W"), _writer("W"), _schema("W")]
PerSecond: TypeAlias = Annotated[float, _reader("1/s"), _writer("1/s"), _schema("1/s")]
Tokens: TypeAlias = Annotated[float, _reader("tokens"), _writer("tokens"), _schema("tokens")]
Ratio: TypeAlias = Annotated[float, _reader("1"), _writer("1"), _schema("1")]
UsdPerHour: TypeAlias = Annotated[float, _reader("USD/h"), _writer("USD/h"), _schema("USD/h")]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=0)]
"""A whole number of things; text, fractions and booleans are refused."""
