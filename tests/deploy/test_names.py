import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.deploy import DeployError
from planner.deploy.names import (
    dns_label,
    is_dns_label,
    is_host_name,
    is_label_value,
    literal,
    natural_key,
    path_part,
    variable_part,
)


@given(st.text(max_size=300))
def test_every_text_becomes_a_legal_name(text: str) -> None:
    """Whatever a user calls a thing, its object has a legal name with room for what controllers append."""
    name = dns_label(text)
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
    assert len(name) <= 40
    assert is_dns_label(name)
    assert is_label_value(name)


@given(st.lists(st.text(max_size=60), min_size=2, max_size=2, unique=True))
def test_different_texts_keep_different_names(texts: list[str]) -> None:
    """What a slug loses, its hash keeps: names that differ only in case or punctuation stay apart."""
    assert dns_label(texts[0]) != dns_label(texts[1])
    assert dns_label("Chat") != dns_label("chat") != dns_label("chat!")


@given(st.from_regex(r"[a-z]([a-z0-9]{1,6}-?){1,4}[a-z0-9]", fullmatch=True))
def test_legal_names_stay_as_they_are(text: str) -> None:
    """A name that is legal already is not touched."""
    assert dns_label(text) == text or text in {"yes", "off", "true", "false", "null"}


@pytest.mark.parametrize("word", ["y", "n", "on", "off", "yes", "no", "true", "null"])
def test_words_that_yaml_readers_take_for_booleans_are_changed(word: str) -> None:
    """An unquoted ``y`` is a boolean to some readers of YAML, so that no object is called so."""
    assert dns_label(word) == f"{word}-{dns_label(word)[-8:]}"


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_kubelet_passes_literal_text_on(text: str) -> None:
    """Expanding ``$$`` to ``$`` gives the text back, and no reference to a variable is left to expand."""
    assert literal(text).replace("$$", "$") == text
    assert not re.search(r"(?<!\$)(\$\$)*\$\(", literal(text))


def test_null_characters_are_refused() -> None:
    """No argument or variable of a process can hold a null character."""
    with pytest.raises(DeployError, match="null character"):
        literal("a\0b")


@given(st.text(min_size=1, max_size=100))
def test_paths_and_variables_have_one_harmless_part(text: str) -> None:
    """Parts of paths hold no separator and do not climb; parts of variable names are letters and digits."""
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", path_part(text))
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", variable_part(text))


def test_numbers_in_names_sort_as_numbers() -> None:
    """``node-2`` comes before ``node-10``."""
    names = ["node-10", "node-2", "rack", "node-1b", "2", "10"]
    assert sorted(names, key=natural_key) == ["2", "10", "node-1b", "node-2", "node-10", "rack"]


@pytest.mark.parametrize(
    ("text", "legal"),
    [("node-0", True), ("n.example.org", True), ("a b", False), ("", False), ("x" * 64, False)],
)
def test_host_names_are_label_values(text: str, legal: bool) -> None:
    """A host name is something that ``kubernetes.io/hostname`` can hold."""
    assert is_host_name(text) is legal
