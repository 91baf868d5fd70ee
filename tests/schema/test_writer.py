from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from planner import schema
from planner.schema.tree import read_tree
from tests.schema.samples import FULL, Disc, Link, Rack, Serving, Training

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SIZES = st.floats(min_value=0, max_value=1e18)
RACKS = st.builds(
    Rack,
    links=st.lists(
        st.builds(
            Link,
            source=NAMES,
            target=NAMES,
            bandwidth=st.floats(min_value=1e-3, max_value=1e15),
            latency=SIZES,
        ),
        max_size=3,
    ).map(tuple),
    jobs=st.lists(st.builds(Training, steps=st.integers()) | st.builds(Serving, rate=SIZES), max_size=3),
    memory=st.just("auto") | SIZES,
    efficiency=st.dictionaries(st.integers(), st.floats(0, 1), max_size=3),
    shape=TEXTS | st.builds(Disc, radius=SIZES, colour=TEXTS, holes=st.lists(st.integers()).map(tuple)),
    names=st.frozensets(TEXTS, max_size=3),
    note=st.none() | TEXTS,
    scale=st.floats(allow_nan=False, allow_infinity=False),
    peak=st.none()
    | st.builds(schema.BandwidthFigure.of, SIZES, st.sampled_from(["vendor", "assumed"]), TEXTS),
)


@given(RACKS)
def test_what_is_written_reads_back_equal(rack: Rack) -> None:
    """For any document, whatever its texts look like."""
    assert schema.loads(schema.dump_yaml(rack), Rack) == rack


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS.filter(lambda key: key != "<<"), JSON, min_size=1, max_size=4))
def test_plain_mappings_read_back_equal(data: dict[str, Any]) -> None:
    """Also what no model describes."""
    assert read_tree(schema.dump_yaml(data), "f")[0] == data


@given(RACKS)
def test_other_readers_understand_it(rack: Rack) -> None:
    """Numbers and texts mean the same to a reader of the older YAML."""
    text = schema.dump_yaml(rack)
    ours, theirs = read_tree(text, "f")[0], yaml.safe_load(text)
    theirs["efficiency"] = {str(key): value for key, value in theirs.get("efficiency", {}).items()}
    assert {"efficiency": {}, **ours} == theirs


def test_it_is_readable() -> None:
    """Fields in their order, defaults left out, units in text, long flat lists on one line."""
    assert schema.dump_yaml(schema.loads(FULL, Rack)) == (
        "schema: rack/3\n"
        "links:\n"
        "- source: a\n  target: b\n  bandwidth: 50 GB/s\n"
        "- source: b\n  target: 'off'\n  bandwidth: 50 GB/s\n  latency: 350 ns\n"
        "jobs:\n"
        "- kind: training\n  steps: 5\n"
        "- kind: serving\n  rate: 5 /s\n"
        "memory: 80 GiB\n"
        "efficiency:\n  8: 0.5\n  16: 0.85\n"
        "shape:\n  radius: 7.0\n"
        'names:\n- x\n- "y"\n'
        "sizes: [1, 2, 3, 4, 5]\n"
        "pair:\n- 1\n- one\n"
        "colour: blue\n"
        "note: 'a: b # c'\n"
        "scale: 1.0e-09\n"
        "peak:\n  value: 450 GB/s\n  provenance: vendor\n  source: sheet\n"
        "delay: 5 us\n"
        "from: here\n"
    )


def test_long_texts_are_blocks() -> None:
    """Several lines stay several lines."""
    assert schema.dump_yaml({"why": "one\ntwo\n"}) == "why: |\n  one\n  two\n"


def test_the_same_object_twice_is_written_twice() -> None:
    """The reader refuses aliases, so the writer makes none."""
    part = {"a": [1]}
    assert read_tree(schema.dump_yaml({"x": part, "y": part}), "f")[0] == {"x": part, "y": part}


def test_letters_that_other_readers_take_for_booleans_are_quoted() -> None:
    """``y`` and ``n`` in either case are words here and booleans elsewhere, Kubernetes included."""
    for letter in "yYnN":
        assert schema.dump_yaml({"value": letter}) == f'value: "{letter}"\n'
    assert schema.dump_yaml({"value": "yes"}) == "value: 'yes'\n"
