"""Structure of a document against its schema: types, unknown and required fields, ranges, patterns, keys.

Strict, as with ``fieldValidation=Strict``: an unknown field is refused. Values of built-in kinds are decoded
by Go, for which a missing field has its zero value, so that only custom kinds have required fields here; the
rules of built-in kinds say themselves what has to be there.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from planner.deploy.apiserver.syntax import amount

Json = Mapping[str, Any]
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_RANGES = {"int32": 2**31, "int64": 2**63}
_FLAGS = re.compile(r"\(\?([a-z]+)\)")


class Structure:
    """Checks values against one schema.

    Parameters
    ----------
    schema, definitions
        The schema, and what its references and the metadata of custom kinds name.
    custom
        Whether the kind is custom, so that required fields and formats of the schema count.
    """

    def __init__(self, schema: Json, definitions: Json, *, custom: bool) -> None:
        self.schema, self.definitions, self.custom = schema, definitions, custom

    def problems(self, document: Json) -> Iterator[str]:
        """Yield what is wrong with a document."""
        if not self.custom:
            yield from self._value(document, self.schema, "")
            return
        body = {
            key: value for key, value in document.items() if key not in ("apiVersion", "kind", "metadata")
        }
        closed = {"properties": {}, **self.schema, "required": [
            name for name in self.schema.get("required", ()) if name not in ("apiVersion", "kind", "metadata")
        ]}  # fmt: skip
        yield from self._value(body, closed, "")
        if META in self.definitions:
            meta = Structure(self.definitions[META], self.definitions, custom=False)
            yield from meta._value(document.get("metadata") or {}, meta.schema, "metadata")

    def _value(self, value: Any, schema: Json, path: str) -> Iterator[str]:
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        if name == QUANTITY:
            if value is not None and (isinstance(value, bool | list | dict) or amount(value) is None):
                yield f"{path}: {value!r} is no quantity"
            return
        schema = self.definitions[name] if name else schema
        if name == INT_OR_STRING or schema.get("x-kubernetes-int-or-string"):
            wrong = _number_or_text(value, 2**63 if self.custom else 2**31)
        else:
            wrong = _type_problem(value, schema, custom=self.custom)
        if wrong:
            yield f"{path}: {wrong}"
            return
        if isinstance(value, dict):
            yield from self._object(value, schema, path)
        elif isinstance(value, list):
            yield from self._list(value, schema, path)
        elif value is not None:
            yield from _scalar(value, schema, path)
        if self.custom:
            yield from self._combined(value, schema, path)

    def _object(self, value: Json, schema: Json, path: str) -> Iterator[str]:
        properties, rest = schema.get("properties"), schema.get("additionalProperties")
        opened = schema.get("x-kubernetes-preserve-unknown-fields") or rest is True
        for key, item in value.items():
            where = f"{path}.{key}".lstrip(".")
            if properties is not None and key in properties:
                yield from self._value(item, properties[key], where)
            elif isinstance(rest, Mapping):
                yield from self._value(item, rest, where)
            elif not opened and (self.custom or rest is False):
                yield f"{where}: unknown field"
        if self.custom:
            for key in schema.get("required", ()):
                if value.get(key) is None and "default" not in (properties or {}).get(key, {}):
                    yield f"{path}.{key}: Required value".lstrip(".")
        yield from _bounds(len(value), schema, "Properties", path)

    def _list(self, value: list[Any], schema: Json, path: str) -> Iterator[str]:
        for index, item in enumerate(value):
            yield from self._value(item, schema.get("items", {}), f"{path}[{index}]")
        yield from _bounds(len(value), schema, "Items", path)
        if not self.custom:
            return
        kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys", ())
        if kind == "set":
            marks = [repr(item) for item in value]
        elif kind == "map":
            fields = (schema.get("items") or {}).get("properties", {})
            default = {key: fields.get(key, {}).get("default") for key in keys}
            marks = [
                repr([item.get(key, default[key]) for key in keys])
                for item in value
                if isinstance(item, dict)
            ]
        else:
            return
        for mark in sorted({mark for mark in marks if marks.count(mark) > 1}):
            yield f"{path}: Duplicate value {mark}"

    def _combined(self, value: Any, schema: Json, path: str) -> Iterator[str]:
        if schema.get("x-kubernetes-int-or-string"):
            return
        for one in schema.get("allOf", ()):
            yield from self._branch(value, one, path)
        for word, least in (("anyOf", 1), ("oneOf", 1)):
            branches = schema.get(word)
            if not branches:
                continue
            fits = sum(not list(self._branch(value, one, path)) for one in branches)
            if fits < least or (word == "oneOf" and fits > 1):
                yield f"{path}: {fits} of the alternatives of {word} hold"
        if "not" in schema and not list(self._branch(value, schema["not"], path)):
            yield f"{path}: must not hold what 'not' says"

    def _branch(self, value: Any, schema: Json, path: str) -> Iterator[str]:
        """Yield what a branch of a combination finds: values only, unknown fields are the parent's."""
        opened = {**schema, "x-kubernetes-preserve-unknown-fields": True}
        if "properties" in schema:
            opened["properties"] = {
                key: {**item, "x-kubernetes-preserve-unknown-fields": True}
                for key, item in schema["properties"].items()
            }
        yield from self._value(value, opened, path)


def _number_or_text(value: Any, limit: int) -> str:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | str)):
        return "must be an integer or a string"
    return f"{value} does not fit" if isinstance(value, int) and not -limit <= value < limit else ""


def _type_problem(value: Any, schema: Json, *, custom: bool) -> str:
    types = schema.get("type")
    if types is None:
        return ""
    names = {types} if isinstance(types, str) else set(types)
    if value is None:
        legal = not custom or "null" in names or bool(schema.get("nullable")) or "default" in schema
        return "" if legal else "must not be null"
    if isinstance(value, bool):
        found = {"boolean"}
    elif isinstance(value, int):
        found = {"integer", "number"}
    elif isinstance(value, float):
        found = {"number"} | ({"integer"} if value.is_integer() else set())
    else:
        found = {_JSON_TYPES.get(type(value), "?")}
    return "" if found & names else f"must be of type {' or '.join(sorted(names - {'null'}))}"


_JSON_TYPES: Mapping[type, str] = {str: "string", dict: "object", list: "array"}


def _scalar(value: Any, schema: Json, path: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: Unsupported value {value!r}; supported: {schema['enum']}"
    if isinstance(value, str):
        yield from _bounds(len(value), schema, "Length", path)
        if "pattern" in schema and not pattern(schema["pattern"]).search(value):
            yield f"{path}: {value!r} does not match {schema['pattern']!r}"
        if schema.get("format") == "date-time" and not _DATE_TIME.fullmatch(value):
            yield f"{path}: {value!r} is no date and time"
        if schema.get("format") == "byte" and not _base64(value):
            yield f"{path}: {value[:20]!r} is not base64"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if (low is not None and value < low) or (high is not None and value > high):
            yield f"{path}: {value} is out of the range {low} to {high}"
        limit = _RANGES.get(str(schema.get("format")))
        if limit and not -limit <= value < limit:
            yield f"{path}: {value} does not fit {schema['format']}"


def _base64(text: str) -> bool:
    try:
        base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except ValueError:
        return False
    return True


_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _bounds(size: int, schema: Json, what: str, path: str) -> Iterator[str]:
    low, high = schema.get(f"min{what}", 0), schema.get(f"max{what}")
    if size < low or (high is not None and size > high):
        yield f"{path}: has {size} {what.lower()}, not {low} to {high if high is not None else 'any number'}"


@lru_cache(maxsize=4096)
def pattern(text: str) -> re.Pattern[str]:
    r"""Return a pattern of RE2 as Python reads it: flags at its beginning, and ``$`` at the very end only."""
    flags = "".join(sorted(set("".join(_FLAGS.findall(text)))))
    plain = _FLAGS.sub("", text)
    plain = re.sub(r"(?<!\\)((?:\\\\)*)\$(?![^\[]*\])", r"\1\\Z", plain).replace(r"\z", r"\Z")
    return re.compile(f"(?{flags}){plain}" if flags else plain)
