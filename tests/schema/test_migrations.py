from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from planner import schema
from planner.errors import DocumentError, UnknownVersionError
from planner.schema import migrations
from tests.schema.samples import Rack


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the test a registry of its own, with both steps to the third version."""
    monkeypatch.setattr(migrations, "_MIGRATIONS", {})

    def colours(data: dict[str, Any]) -> dict[str, Any]:
        data = dict(data)
        data["colour"] = data.pop("color", "red")
        return data

    schema.register_migration("rack", 1, colours)
    schema.register_migration("rack", 2, lambda data: {**data, "note": "from version 2"})
    yield


@pytest.mark.usefixtures("registry")
def test_old_documents_load_as_if_written_today() -> None:
    """The steps run in order, and the header becomes the current one."""
    rack = schema.loads("schema: rack/1\ncolor: blue\n", Rack)
    assert rack == Rack(colour="blue", note="from version 2")
    assert schema.loads("schema: rack/2\ncolour: blue\n", Rack) == rack


@pytest.mark.usefixtures("registry")
def test_mistakes_in_old_documents_keep_their_places() -> None:
    """What a migration left in place is found at its line."""
    with pytest.raises(DocumentError, match=r"f:2:8: scale: must be a number"):
        schema.loads("schema: rack/1\nscale: x\n", Rack, "f")


@pytest.mark.usefixtures("registry")
def test_a_migration_does_not_see_the_original() -> None:
    """A function that changes its argument spoils nothing."""
    data = {"schema": "rack/1", "color": "blue", "sizes": [1]}
    migrated = migrations.migrate(data, "rack", 1, 3)
    migrated["sizes"].append(2)
    assert data == {"schema": "rack/1", "color": "blue", "sizes": [1]}
    assert migrated["schema"] == "rack/3"


@pytest.mark.usefixtures("registry")
def test_a_step_is_registered_once() -> None:
    """Two functions for one step would be a mistake in the program."""
    with pytest.raises(ValueError, match="rack/1 is registered already"):
        schema.register_migration("rack", 1, dict)


def test_a_version_without_a_way_is_refused() -> None:
    """The message says which version to write."""
    with pytest.raises(UnknownVersionError, match=r"version 1 of rack can no longer be read; write rack/3"):
        schema.loads("schema: rack/1", Rack)
