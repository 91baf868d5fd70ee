"""The checker against recorded verdicts of a real API server, and against schemas made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.manifest_verdicts import judge
from planner.deploy.apiserver import Checker, Schemas, read_schemas
from planner.deploy.apiserver.schemas import Kind, SchemaFilesError
from planner.deploy.apiserver.structure import pattern

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "k8s-schemas"
RULES = [
    {"rule": "self.low <= self.high", "message": "low exceeds high"},
    {"rule": "self == oldSelf"},
    {"rule": "oldSelf.hasValue() || self.high < 100", "optionalOldSelf": True, "message": "too high"},
]
SPEC = {
    "type": "object",
    "required": ["low"],
    "properties": {
        "low": {"type": "integer", "minimum": 0},
        "high": {"type": "integer", "default": 10},
        "mode": {"enum": ["a", "b"], "type": "string"},
        "size": {"x-kubernetes-int-or-string": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string", "pattern": "^(?i)[a-z]+$"}},
            },
        },
    },
    "x-kubernetes-validations": RULES,
}
SCHEMA = {"type": "object", "properties": {"spec": SPEC}}


def problems(**spec: object) -> list[str]:
    checker = Checker(Schemas("1.36", {"example.org/v1:Thing": Kind(SCHEMA, {}, True, True)}))
    meta = {"name": "one", "namespace": "here"}
    return checker.problems({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": meta, "spec": spec})


def test_a_custom_kind_is_checked_by_its_own_schema() -> None:
    """Unknown, missing, mistyped and repeated parts are refused; defaults and free parts are honoured."""
    assert problems(low=1, size="5", free={"any": 1}, parts=[{"name": "A"}]) == []
    assert problems(low=1, extra=1) == ["spec.extra: unknown field"]
    assert problems(high=3) == ["spec.low: Required value"]
    assert "type integer" in problems(low="1")[0]
    assert "out of the range" in problems(low=-1)[0]
    assert "Unsupported" in problems(low=1, mode="c")[0]
    assert "Duplicate" in problems(low=1, parts=[{"name": "a"}, {"name": "a"}])[0]
    assert "does not match" in problems(low=1, parts=[{"name": "1"}])[0]


def test_rules_of_a_custom_kind_see_defaults() -> None:
    """A rule compares a stated value with a default; rules about changes hold for what is new."""
    assert problems(low=11) == ["spec: low exceeds high"]
    assert problems(low=1, high=200) == ["spec: too high"]


def test_patterns_end_at_the_end() -> None:
    """A final line break does not slip through, as it would with Python's dollar sign."""
    assert pattern("^a$").search("a") and not pattern("^a$").search("a\n")
    assert pattern("^(?i)ab$").search("AB")


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """A kind that nobody serves, and a folder without schemas, are told apart."""
    found = Checker(Schemas("1.36", {})).problems(
        {"apiVersion": "v9", "kind": "X", "metadata": {"name": "a"}}
    )
    assert "no X of v9 is served" in found[0]
    with pytest.raises(SchemaFilesError, match=r"1\.36"):
        read_schemas(tmp_path, "1.36")


@pytest.mark.reference
@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded verdicts are not beside the checkout")
def test_recorded_verdicts_of_a_real_server() -> None:
    """At least 99 % of what the server refused is refused, and everything unchanged is taken."""
    cases = list(judge(RECORDED, Checker(read_schemas(RECORDED, "1.36"))))
    refused = [case for case in cases if case.refused]
    assert len(cases) > 2000 and sum(case.agrees for case in refused) >= 0.99 * len(refused)
    assert all(not case.reasons for case in cases if case.recorded["op"] == "none")
