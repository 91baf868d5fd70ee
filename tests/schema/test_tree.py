from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import DocumentError, Problem
from planner.schema.tree import DEEPEST, read_tree


def problems(text: str) -> list[Problem]:
    """Return what is wrong with a text."""
    with pytest.raises(DocumentError) as caught:
        read_tree(text, "f.yaml")
    return caught.value.problems


def test_data_and_places_agree() -> None:
    """Every value and every key has its line and column."""
    data, spot = read_tree("a: 1\nb:\n  - x\n  - {c: off}\n", "f.yaml")
    assert data == {"a": 1, "b": ["x", {"c": "off"}]}
    assert spot.children is not None
    assert spot.keys == {"a": (1, 1), "b": (2, 1)}
    second = spot.children["b"].children
    assert second is not None
    assert (second[0].line, second[0].column) == (3, 5)
    inner = second[1].children
    assert inner is not None
    assert (inner["c"].line, inner["c"].column) == (4, 9)


def test_keys_are_text() -> None:
    """A table of batch sizes keeps its keys as written; the model turns them into numbers."""
    assert read_tree("{8: x, true: y, 010: z}", "f")[0] == {"8": "x", "true": "y", "010": "z"}


def test_quoted_words_are_text() -> None:
    """Quotes end all guessing."""
    assert read_tree("""['1', "true", !!str ]""".replace("!!str ", "''"), "f")[0] == ["1", "true", ""]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "duplicate key 'a'; it is first given on line 1"),
        ("x: {a: 1, a: 1}", 1, 11, "duplicate key 'a'"),
        ("a: &anchor 1", 1, 4, "anchor &anchor is not supported"),
        ("a: &anchor {}", 1, 4, "anchor &anchor is not supported"),
        ("a: *b", 1, 4, "alias *b is not supported; write the value out"),
        ("<<: {}", 1, 1, "merge keys are not supported"),
        (
            "a: !!python/object/apply:os.system [ls]",
            1,
            4,
            "tag tag:yaml.org,2002:python/object/apply:os.system",
        ),
        ("a: !!int '5'", 1, 4, "tag tag:yaml.org,2002:int is not supported"),
        ("? [a]\n: 1", 1, 3, "a key must be plain text"),
        ("{[a]: 1}", 1, 2, "a key must be plain text"),
        ("? {a: 1}\n: 1", 1, 3, "a key must be plain text"),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second document starts here"),
        ("a:\n\tb: 1", 2, 1, "indent with spaces, not tabs"),
        ("a: [1, 2", 2, 1, "not valid YAML"),
        ("a: 'x", 1, 6, "not valid YAML"),
        ("a: b: c", 1, 5, "not valid YAML"),
        ("a: 1\n b: 2", 2, 3, "not valid YAML"),
        ("a: 010", 1, 4, 'a: 010 is ambiguous: write 10 for the number, "010" for the text'),
        ("a: x\nb: \x00", 2, 4, "character '\\x00' is not allowed"),
        ("a: \ud800", 1, 4, "character '\\ud800' is not allowed"),
    ],
)
def test_what_could_hide_a_mistake_is_refused(text: str, line: int, column: int, words: str) -> None:
    """Each refusal names the place and the reason."""
    first = problems(text)[0]
    assert (first.line, first.column) == (line, column)
    assert words in str(first)


@pytest.mark.parametrize("text", ["", "  \n", "# only a comment\n", "\n\n"])
def test_an_empty_document_says_how_to_start(text: str) -> None:
    """Nothing is not a document."""
    assert "the document is empty; start with" in str(problems(text)[0])


def test_all_refusals_are_listed_at_once() -> None:
    """The writer mends a file in one go."""
    found = problems("a: &x 1\nb: *x\na: !!str 2\nc: 010\n")
    assert [problem.line for problem in found] == [1, 2, 3, 3, 4]


def test_nested_places_are_named() -> None:
    """The dotted path leads to the place."""
    assert problems("a:\n  - 1\n  - b: {c: 010}\n")[0].where == "a.1.b.c"


def test_depth_is_bounded() -> None:
    """What is not too deep is read; deeper is refused without exhausting the stack."""
    read_tree("[" * DEEPEST + "]" * DEEPEST, "f")
    assert f"deeper than {DEEPEST}" in str(problems("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))[0])
    assert problems("[" * 200_000)
    assert problems("{a: " * 100_000)
    assert problems("- " * 100_000)


def test_an_alias_bomb_is_harmless() -> None:
    """Aliases are refused before anything multiplies."""
    levels = [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(30)]
    started = time.perf_counter()
    assert problems("a0: &a0 x\n" + "\n".join(levels))
    assert time.perf_counter() - started < 1


def test_the_list_of_problems_is_bounded() -> None:
    """A file of another kind does not flood the terminal."""
    assert len(problems("a: 1\n" * 1000)) == 200


def test_bom_free_crlf_is_read() -> None:
    """Files from other systems have other line ends."""
    data, spot = read_tree("a: 1\r\nb: 2\r\n", "f")
    assert data == {"a": 1, "b": 2}
    assert spot.keys["b"] == (2, 1)


def test_json_is_read() -> None:
    """JSON is YAML, also when it is indented with tabs."""
    assert read_tree('{\n\t"a": [1, 2.5, null, true],\n\t"b": "x"\n}', "f")[0] == {
        "a": [1, 2.5, None, True],
        "b": "x",
    }


@given(st.text(alphabet=st.sampled_from("ab:-[]{},&*!|>'\"#%@` \n\t?0.~<"), max_size=60))
def test_any_text_is_data_or_a_document_error(text: str) -> None:
    """The reader has no other way to fail."""
    try:
        read_tree(text, "f")
    except DocumentError as error:
        assert error.problems


@given(st.text(max_size=40))
def test_any_characters_are_data_or_a_document_error(text: str) -> None:
    """Control characters and surrogates included."""
    try:
        read_tree(text, "f")
    except DocumentError as error:
        assert error.problems


def test_a_long_document_is_read_quickly() -> None:
    """Twelve thousand lines take a fraction of a second."""
    block = "- source: a\n  target: b\n  bandwidth: 50 GB/s\n  latency: 350 ns\n  kind: nvlink\n\n"
    started = time.process_time()
    data, _ = read_tree(block * 2000, "f")
    assert len(data) == 2000
    assert time.process_time() - started < 1.5
