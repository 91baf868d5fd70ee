from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from planner import schema
from tests.schema.samples import FULL, Disc, Rack, Serving, Training

REWRITTEN = """\
# the same document in other words
from: 'here'
delay: 0.005 ms
peak:
  source: "sheet"
  provenance: vendor
  value: 3600 Gbit/s
scale: 0.000000001
note: 'a: b # c'
colour: blue
pair: [0x1, one]
sizes: [1, 2, 3,
        4, 5]
names:
  - y
  - x
shape: {radius: 7.0, colour: red}
efficiency: {16: 0.85, 8: 50 %}
memory: 81920 MiB
jobs: [{steps: 5, kind: training, training: null}, {kind: serving, rate: 300 req/min}]
links:
  - {target: b, source: a, bandwidth: 50 GB/s, latency: 0}
  - {target: "off", source: b, bandwidth: 50000 MB/s, latency: 0.35 us}
schema: rack/3
"""


def test_the_digest_ignores_how_a_document_is_written() -> None:
    """Order, quotes, units, comments and stated defaults do not matter."""
    assert schema.digest(schema.loads(FULL, Rack)) == schema.digest(schema.loads(REWRITTEN, Rack))


@pytest.mark.parametrize(
    ("old", "new"),
    [("400 Gbit/s", "401 Gbit/s"), ("vendor", "measured"), ("[1, 2,", "[2, 1,"), ("radius: 7", "radius: 8")],
)
def test_the_digest_sees_every_change_of_meaning(old: str, new: str) -> None:
    """A plan made from the old document refuses the new one."""
    changed = FULL.replace(old, new)
    assert changed != FULL
    assert schema.digest(schema.loads(FULL, Rack)) != schema.digest(schema.loads(changed, Rack))


def test_canonical_json_is_sorted_tight_and_exact() -> None:
    """Keys in order, no spaces, shortest exact numbers, UTF-8."""
    rack = Rack(scale=0.1, note="µ", sizes=(3, 1))
    assert schema.canonical_json(rack) == '{"note":"µ","scale":0.1,"schema":"rack/3","sizes":[3,1]}'.encode()
    full = schema.canonical_json(schema.loads(FULL, Rack))
    assert json.dumps(json.loads(full), sort_keys=True, separators=(",", ":")).encode() == full


def test_the_digest_has_its_algorithm_in_front() -> None:
    """And 64 hexadecimal digits behind."""
    name, _, digits = schema.digest(Rack()).partition(":")
    assert (name, len(digits)) == ("sha256", 64)


def test_the_digest_does_not_depend_on_the_process() -> None:
    """Sets have another order in every process; their digest has not."""
    code = (
        "from tests.schema.samples import Rack; from planner import schema;"
        "print(schema.digest(Rack(names=frozenset('abcdefgh'))))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_plain_leaves_out_defaults_but_not_tags() -> None:
    """A tag tells the forms of a value apart, so it stays though it equals its default."""
    rack = Rack(jobs=[Training(steps=1), Serving(rate=2.0)], shape=Disc(radius=1.0), scale=1.0)
    assert schema.plain(rack) == {
        "schema": "rack/3",
        "jobs": [{"kind": "training", "steps": 1}, {"kind": "serving", "rate": "2 /s"}],
        "shape": {"radius": 1.0},
    }


def test_plain_keeps_true_apart_from_one() -> None:
    """In Python they are equal, in a document they are not."""

    class Flag(schema.Record):
        value: int | bool = True

    assert schema.plain(Flag(value=1)) == {"value": 1}
    assert schema.plain(Flag(value=True)) == {}


def test_a_required_field_without_a_value_stays() -> None:
    """Left out, it would be missing."""

    class Choice(schema.Record):
        value: int | None

    assert schema.plain(Choice(value=None)) == {"value": None}
