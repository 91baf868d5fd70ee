"""JSON Schemas of the documents, for editors and other programs."""

from __future__ import annotations

from typing import Any

from planner.schema.records import Document


def json_schema(kind: type[Document]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a kind of document; its header is required and fixed."""
    schema = kind.model_json_schema(by_alias=True, mode="validation")
    properties = {
        **schema["properties"],
        "schema": {"const": kind.header(), "description": "Kind and version."},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{kind.kind}-{kind.version}.json",
        **schema,
        "properties": properties,
        "required": ["schema", *schema.get("required", [])],
    }
