"""The exported JSON Schemas are current and accept what the program accepts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from planner.schema.tree import read_tree
from planner.study.schemas import schema_files, write_schemas


def test_stored_schemas_are_current(repository: Path) -> None:
    """`make schemas` would change nothing."""
    stored = {path.name: path.read_text(encoding="utf-8") for path in (repository / "schemas").glob("*.json")}
    assert stored == schema_files()


def test_schemas_are_written_where_asked(tmp_path: Path) -> None:
    """Every kind of document has a file."""
    names = {path.name for path in write_schemas(tmp_path / "new")}
    assert {"topology-1.json", "workload-1.json", "plan-1.json", "calibration-1.json"} <= names


@pytest.mark.parametrize("folder", ["topologies", "workloads", "calibrations"])
def test_shipped_documents_are_valid_under_their_schema(repository: Path, folder: str) -> None:
    """An editor that uses the schemas finds nothing wrong with a shipped document."""
    files = schema_files()
    documents = sorted((repository / folder).glob("*.yaml"))
    assert documents
    for path in documents:
        document, _ = read_tree(path.read_text(encoding="utf-8"), path.name)
        assert isinstance(document, dict)
        schema = json.loads(files[document["schema"].replace("/", "-") + ".json"])
        errors = [
            f"{path.name}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)
        ]
        assert errors == []


def test_a_misspelt_field_is_invalid_under_the_schema() -> None:
    """The schemas are as strict as the program about unknown fields."""
    schema = json.loads(schema_files()["workload-1.json"])
    document = {"schema": "workload/1", "name": "x", "jobs": [], "jbos": []}
    assert any("jbos" in error.message for error in Draft202012Validator(schema).iter_errors(document))
