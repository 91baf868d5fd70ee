from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from planner import schema
from planner.schema.tree import read_tree
from tests.schema.samples import FULL, Rack


@pytest.fixture(scope="module")
def exported() -> dict[str, Any]:
    """Return the JSON Schema of the sample kind."""
    return schema.json_schema(Rack)


def test_the_schema_is_valid(exported: dict[str, Any]) -> None:
    """It follows draft 2020-12 and says so."""
    Draft202012Validator.check_schema(exported)
    assert exported["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_it_accepts_what_loads(exported: dict[str, Any]) -> None:
    """The full sample passes."""
    assert list(Draft202012Validator(exported).iter_errors(read_tree(FULL, "f")[0])) == []


@pytest.mark.parametrize(
    "body",
    [
        "foo: 1",
        "memory: 5",
        "peak: 5 s",
        "colour: gren",
        "jobs: [{kind: trainin}]",
        "scale: x",
        "delay: {value: 1}",
    ],
)
def test_it_refuses_what_does_not_load(exported: dict[str, Any], body: str) -> None:
    """An editor marks these mistakes."""
    data = read_tree(f"schema: rack/3\n{body}", "f")[0]
    assert list(Draft202012Validator(exported).iter_errors(data))


def test_the_header_is_fixed_and_required(exported: dict[str, Any]) -> None:
    """Another version has another schema."""
    validator = Draft202012Validator(exported)
    assert validator.is_valid({"schema": "rack/3"})
    assert not validator.is_valid({"schema": "rack/2"})
    assert not validator.is_valid({})
