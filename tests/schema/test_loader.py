from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import schema
from planner.errors import DocumentError, UnknownVersionError
from tests.schema.samples import FULL, Disc, Rack, Serving


def complaints(text: str) -> list[str]:
    """Return the lines of the error of a text, without the file name."""
    with pytest.raises(DocumentError) as caught:
        schema.loads(text, Rack, "f")
    return [line.removeprefix("f:") for line in str(caught.value).splitlines()]


def one(body: str) -> str:
    """Return the only complaint about a document with this body."""
    (line,) = complaints("schema: rack/3\n" + body)
    return line


def test_a_full_document_loads() -> None:
    """Every form of field arrives as SI floats and plain Python values."""
    rack = schema.loads(FULL, Rack)
    assert rack.links[0].bandwidth == rack.links[1].bandwidth == 50e9
    assert rack.links[1].target == "off"
    assert rack.memory == 80 * 2.0**30
    assert rack.efficiency == {8: 0.5, 16: 0.85}
    assert rack.jobs[1] == Serving(rate=5.0)
    assert rack.shape == Disc(radius=7.0)
    assert rack.pair == (1, "one")
    assert rack.peak is not None
    assert (rack.peak.value, rack.peak.provenance, rack.peak.source) == (450e9, "vendor", "sheet")
    assert (rack.delay.value, rack.delay.provenance) == (5e-6, "assumed")
    assert rack.parent == "here"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("colour: gren", "2:9: colour: must be one of red, green, blue, not 'gren'; did you mean 'green'?"),
        ("color: red", "2:1: color: unknown field; did you mean 'colour'?"),
        (
            "memory: 80",
            '2:9: memory: number 80 has no unit; expected a size such as "80 GiB" or "16 MB", or must be '
            "'auto', not 80",
        ),
        ("sizes: [1, x]", "2:12: sizes.1: must be a whole number, not 'x'"),
        ("sizes: [1, true]", "2:12: sizes.1: must be a whole number, not true"),
        ("sizes: [1, '2']", "2:12: sizes.1: must be a whole number, not '2'; remove the quotes"),
        ("sizes: [1.5]", "2:9: sizes.0: must be a whole number, not 1.5"),
        ("sizes: 5", "2:8: sizes: must be a list, not 5"),
        ("scale: true", "2:8: scale: must be a number, not true"),
        ("scale: .nan", "2:8: scale: must be a finite number, not nan"),
        ("enabled: 7", "2:10: enabled: must be true or false, not 7"),
        ("enabled: maybe", "2:10: enabled: must be true or false, not 'maybe'"),
        ("note: 5", "2:7: note: must be text, not 5; put it in quotes"),
        ("pair: [1]", "2:7: pair.1: missing field"),
        ("links: {a: b}", "2:8: links: must be a list, not a mapping"),
        ("links: [5]", "2:9: links.0: must be a mapping, not 5"),
        ("links:\n- {target: b, bandwidth: 5 GB/s}", "3:3: links.0.source: missing field"),
        (
            "links:\n- {source: a, target: b, bandwidth: 0 GB/s}",
            "3:37: links.0.bandwidth: must be greater than 0, not '0 GB/s'",
        ),
        (
            "links:\n- {source: a, target: b, bandwith: 5 GB/s}",
            "3:26: links.0.bandwith: unknown field; did you mean 'bandwidth'?",
        ),
        (
            "links:\n- {source: -a, target: b, bandwidth: 5 GB/s}",
            "3:12: links.0.source: '-a' is not allowed here; it must match ^[A-Za-z0-9][A-Za-z0-9._/:-]*$",
        ),
        ("jobs: [{kind: training, steps: x}]", "2:32: jobs.0.steps: must be a whole number, not 'x'"),
        (
            "jobs: [{kind: training, steps: 1, training: x}]",
            "2:45: jobs.0.training: must be a whole number, not 'x'",
        ),
        (
            "jobs: [{kind: training, steps: 1, speps: 2}]",
            "2:35: jobs.0.speps: unknown field; did you mean 'steps'?",
        ),
        (
            "jobs: [{kind: trainin}]",
            "2:15: jobs.0.kind: must be one of training, serving, not 'trainin'; did you mean 'training'?",
        ),
        ("jobs: [{steps: 5}]", "2:8: jobs.0.kind: missing field"),
        ("jobs: [5]", "2:8: jobs.0: must be a mapping, not 5"),
        (
            "efficiency: {8: 200 GB}",
            '2:17: efficiency.8: \'200 GB\' is a size; expected a ratio such as "0.85" or "85 %"',
        ),
        ("efficiency: {x: 0.5}", "2:17: efficiency.x: must be a whole number, not 'x'"),
        ("shape: {side: x}", "2:15: shape.side: must be a whole number, not 'x'"),
        ("shape: {radius: 1, holes: [1, x]}", "2:31: shape.holes.1: must be a whole number, not 'x'"),
        ("shape: {radius: 1, colour: 2}", "2:28: shape.colour: must be text, not 2; put it in quotes"),
        ("shape: 5", "2:8: shape: must be a mapping or text, not 5; put it in quotes"),
        (
            "peak: 450",
            '2:7: peak: number 450 has no unit; expected a data rate such as "900 GB/s" or "400 Gbit/s"',
        ),
        (
            "peak: 450 GB",
            '2:7: peak: \'450 GB\' is a size; expected a data rate such as "900 GB/s" or "400 Gbit/s"; '
            'did you mean "GB/s"?',
        ),
        (
            "delay: {value: 5 us, provenance: vendr}",
            "2:34: delay.provenance: must be one of measured, vendor, nccl-constant, assumed, not 'vendr'; "
            "did you mean 'vendor'?",
        ),
        (
            "delay: {value: 5}",
            '2:16: delay.value: number 5 has no unit; expected a time such as "350 ns" or "10 ms" or "1.5 h"',
        ),
        ("delay: {provenance: vendor}", "2:8: delay.value: missing field"),
        ("delay:", '2:7: delay: expected a time such as "350 ns" or "10 ms" or "1.5 h", not empty'),
        ("from: 5", "2:7: from: must be text, not 5; put it in quotes"),
        (
            "zzz: x",
            "2:1: zzz: unknown field; known here: schema, links, jobs, memory, efficiency, shape, names, "
            "sizes, pair, colour, note, scale, enabled, peak, delay, from",
        ),
        (
            "enabled: true\nlinks:\n- {source: a, target: a, bandwidth: 5 GB/s}\n"
            "- {source: b, target: c, bandwidth: 5 GB/s}",
            "5:23: links.1.target: no vertex 'c'; add it",
        ),
    ],
)
def test_each_mistake_is_one_complaint_at_its_place(body: str, complaint: str) -> None:
    """Line, column, dotted path, plain words and the way out; nothing of the validator's own vocabulary."""
    assert one(body) == complaint


def test_all_mistakes_are_reported_at_once_in_order() -> None:
    """The writer mends a file in one go."""
    text = "schema: rack/3\nsizes: [x, 1, y]\ncolour: gren\nlinks:\n- {source: a}\nfoo: 1\n"
    places = [line.split(": ")[:2] for line in complaints(text)]
    assert places == [
        ["2:9", "sizes.0"],
        ["2:15", "sizes.2"],
        ["3:9", "colour"],
        ["5:3", "links.0.bandwidth"],
        ["5:3", "links.0.target"],
        ["6:1", "foo"],
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("5", '1:1: the document must be a mapping; start with "schema: rack/3"'),
        ("colour: red", '1:1: schema: missing field; start with "schema: rack/3"'),
        ("schema: 3", "1:9: schema: must be of the form KIND/VERSION; expected rack/3"),
        ("schema: rack", "1:9: schema: must be of the form KIND/VERSION; expected rack/3"),
        ("schema: rack/0", "1:9: schema: must be of the form KIND/VERSION; expected rack/3"),
        (
            "schema: rak/3",
            "1:9: schema: this is a 'rak' document, but 'rack' is expected; did you mean 'rack'?",
        ),
        ("schema: plan/1", "1:9: schema: this is a 'plan' document, but 'rack' is expected"),
    ],
)
def test_a_wrong_header_says_what_is_expected(text: str, complaint: str) -> None:
    """The header is checked before anything else."""
    assert complaints(text) == [complaint]


def test_a_newer_version_is_told_apart() -> None:
    """The way out is another program, not another file."""
    with pytest.raises(UnknownVersionError, match=r"f:1:9: schema: version 4 of rack is newer .* rack/3"):
        schema.loads("schema: rack/4", Rack, "f")


def test_bare_numbers_can_be_allowed() -> None:
    """Documents of other programs may state SI numbers."""
    text = "schema: rack/3\nmemory: 5\ndelay: 0.5\n"
    rack = schema.loads(text, Rack, allow=["bare_numbers"])
    assert (rack.memory, rack.delay.value) == (5.0, 0.5)
    with pytest.raises(ValueError, match="unknown allowance"):
        schema.loads(text, Rack, allow=["anything"])


def test_load_reads_files_and_names_them(tmp_path: Path) -> None:
    """Messages start with the path that the user gave."""
    path = tmp_path / "rack.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert schema.load(path, Rack) == schema.loads(FULL, Rack)
    path.write_text("schema: rack/3\nfoo: 1\n")
    with pytest.raises(DocumentError, match=rf"^{path}:2:1: foo: unknown field"):
        schema.load(path, Rack)


def test_load_any_chooses_by_header(tmp_path: Path) -> None:
    """The header says what a file is; unknown kinds are answered with the nearest known."""
    path = tmp_path / "x.yaml"
    path.write_text("schema: rack/3\n")
    assert isinstance(schema.load_any(path, {"rack": Rack}), Rack)
    path.write_text("schema: rak/3\n")
    with pytest.raises(DocumentError, match="did you mean 'rack'"):
        schema.load_any(path, {"rack": Rack})


FRAGMENTS = [line + "\n" for line in FULL.splitlines()]


@given(
    st.lists(st.sampled_from(FRAGMENTS), max_size=12),
    st.text("ab:-{}[],5 \n", max_size=6),
    st.integers(0, 300),
)
def test_damaged_documents_load_or_complain(lines: list[str], noise: str, where: int) -> None:
    """Whatever happens to a file, the answer is a document or a list of problems with positions."""
    text = "schema: rack/3\n" + "".join(lines)
    text = text[:where] + noise + text[where:]
    try:
        schema.loads(text, Rack)
    except DocumentError as error:
        assert all(problem.line >= 1 for problem in error.problems)
