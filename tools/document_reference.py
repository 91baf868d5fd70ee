"""Write the reference of all documents: fields with type, unit, default and meaning, from the models.

    python tools/document_reference.py docs/reference/fields

`docs/conf.py` calls it before every build, so that the pages cannot be out of date; they are not kept in git.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from planner.schema import json_schema
from planner.study.schemas import KINDS

Schema = Mapping[str, Any]
_SECTION = re.compile(r"^Attributes\n-+\n", re.MULTILINE)
_OTHER = re.compile(r"^(?:Notes|References|Examples|Raises|Parameters|Returns)\n-+\n", re.MULTILINE)
_MOST_VALUES = 12


def meanings(description: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the attributes of a numpydoc text, and what it says of each."""
    head, _, rest = _SECTION.split(description, 1)[0], None, ""
    if _SECTION.search(description):
        rest = _OTHER.split(_SECTION.split(description, maxsplit=1)[1])[0]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            names = [name.strip(" `") for name in line.split(" : ")[0].split(",")]
        elif line.strip():
            for name in names:
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return plain(_OTHER.split(head)[0]), found


def plain(text: str) -> str:
    """Return reStructuredText as Markdown on one line of a table, paragraph by paragraph."""
    text = re.sub(r":[a-z]+:`~?\.?([^`]+)`", r"`\1`", text).replace("``", "`")
    return " ".join(text.replace("|", "\\|").split())


class Page:
    """The reference of one kind of document."""

    def __init__(self, schema: Schema) -> None:
        self.schema, self.parts = schema, schema.get("$defs", {})

    def markdown(self, title: str) -> str:
        """Return the page."""
        lines = [f"# {title}", "", *self._fields(self.schema)]
        for name, part in self.parts.items():
            if "properties" in part and not name.endswith("Figure"):
                lines += [f"## {name}", "", *self._fields(part)]
        return "\n".join(lines).rstrip() + "\n"

    def _fields(self, part: Schema) -> Iterator[str]:
        head, said = meanings(part.get("description", ""))
        yield from (head, "") if head else ()
        yield from ("| field | type | unit | default | meaning |", "| --- | --- | --- | --- | --- |")
        for name, field in part.get("properties", {}).items():
            default = "required" if name in part.get("required", ()) else self._default(field)
            text = plain(said.get(name, ""))
            yield f"| `{name}` | {self._type(field)} | {self._unit(field) or ''} | {default} | {text} |"
        yield ""

    def _default(self, field: Schema) -> str:
        if "default" not in field:
            return "made"
        value = field["default"]
        return "none" if value in (None, [], {}, "") else f"`{value}`".replace("|", "\\|")

    def _type(self, field: Schema) -> str:
        if "const" in field:
            return f"`{field['const']}`"
        if "x-unit" in field:
            return "quantity" if field["x-unit"] != "1" else "number or per cent"
        if "$ref" in field:
            return self._named(field["$ref"].rsplit("/", 1)[1])
        if "enum" in field:
            values = [f"`{value}`" for value in field["enum"][:_MOST_VALUES]]
            return ", ".join(values) + (", ..." if len(field["enum"]) > _MOST_VALUES else "")
        for union in ("anyOf", "oneOf"):
            if union in field:
                kinds = [self._type(one) for one in field[union] if one.get("type") != "null"]
                return " or ".join(dict.fromkeys(kinds))
        if field.get("type") == "array":
            return f"list of {self._type(field.get('items', {}))}" if "items" in field else "list"
        if field.get("type") == "object":
            inside = field.get("additionalProperties")
            return f"mapping to {self._type(inside)}" if isinstance(inside, Mapping) else "mapping"
        kinds_of = {
            "string": "text",
            "number": "number",
            "integer": "whole number",
            "boolean": "true or false",
        }
        return kinds_of.get(str(field.get("type", "")), "any")

    def _named(self, name: str) -> str:
        part = self.parts.get(name, {})
        if name.endswith("Figure"):
            return "[figure](../documents.md#rules)"
        if "properties" in part:
            return f"[{name}](#{name.lower()})"
        return self._type(part) if part else name

    def _unit(self, field: Schema) -> str | None:
        """Return the SI unit of a quantity, or of a figure that holds one."""
        if "x-unit" in field:
            return "" if field["x-unit"] == "1" else str(field["x-unit"])
        if "$ref" in field:
            part = self.parts.get(field["$ref"].rsplit("/", 1)[1], {})
            whole = "properties" in part and "value" not in part["properties"]
            return None if whole else self._unit(part)
        if "value" in field.get("properties", {}):
            return self._unit(field["properties"]["value"])
        for key in ("anyOf", "oneOf"):
            for one in field.get(key, ()):
                found = self._unit(one)
                if found:
                    return found
        inside = field.get("items") or field.get("additionalProperties")
        return self._unit(inside) if isinstance(inside, Mapping) else None


def write_reference(folder: Path) -> list[Path]:
    """Write a page for every kind of document; pages of kinds that are gone are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for kind in KINDS:
        path = folder / f"{kind.kind}.md"
        text = Page(json_schema(kind)).markdown(kind.header())
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
        made.append(path)
    for old in set(folder.glob("*.md")) - set(made):
        old.unlink()
    return made


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
