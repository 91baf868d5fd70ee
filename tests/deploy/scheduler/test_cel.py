from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.deploy.scheduler.cel import CelSyntaxError, compiled
from planner.deploy.scheduler.cel_values import CelError, amount, version

DEVICE = {
    "driver": "gpu.example.com",
    "attributes": {
        "gpu.example.com": {"model": "NVIDIA H100 80GB", "index": 3, "cc": version("9.0.0"), "ecc": True}
    },
    "capacity": {"gpu.example.com": {"memory": amount("80Gi")}},
}
SCOPE: dict[str, Any] = {"device": DEVICE, "x": 3, "names": ["a", "b", "ab"]}
A, C = "device.attributes['gpu.example.com']", "device.capacity['gpu.example.com']"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 == 7 && !(2 > 3)", True),
        ("-7 / 2 == -3 && -7 % 2 == -1", True),
        ("7.0 / 2.0 > 3.4", True),
        ("x in [1, 2, 3] ? 'yes' : 'no'", "yes"),
        (f"{A}.index >= 3 && {A}['ecc']", True),
        (f"{A}.model.lowerAscii().matches('^.*h100.*$')", True),
        (f"{A}.cc.compareTo(semver('9.0.1')) < 0", True),
        (f"{A}.cc.isGreaterThan(semver('8.9.0'))", True),
        (f"{C}.memory.compareTo(quantity('0.08Ti')) == -1", True),
        ("quantity('1500m').compareTo(quantity('1.5')) == 0", True),
        ("semver('1.0.0-rc.2').isLessThan(semver('1.0.0')) && !isSemver('1.0')", True),
        (f"has({A}.index) && !has({A}.numa)", True),
        ("names.exists(n, n.startsWith('a') && n.endsWith('b'))", True),
        ("names.all(n, size(n) == 1)", False),
        ("names.exists_one(n, n.contains('a') && n.size() == 2)", True),
        ("names.filter(n, n != 'a').map(n, n + '!') == ['b!', 'ab!']", True),
        ('"it\\"s" == \'it"s\' && r"\\d" == "\\\\d"', True),
        ("1 == 1.0 && 1 != true && null == null", True),
    ],
)
def test_expressions_have_the_values_of_the_language(text: str, value: object) -> None:
    """Hand-worked from the language definition and the functions that Kubernetes adds."""
    assert compiled(text)(SCOPE) == value


@pytest.mark.parametrize(
    "text",
    [f"{A}.numa == 1", "x && true", "x < 'a'", "1 / 0 == 1", "nowhere == 1",
     "quantity('1 kg') == quantity('1')", "'a'.matches('(')", "x.size() == 1"],
)  # fmt: skip
def test_what_has_no_value_is_an_error(text: str) -> None:
    """A missing key, a type that a function does not take, a division by zero."""
    with pytest.raises(CelError):
        compiled(text)(SCOPE)


def test_a_decided_side_hides_the_error_of_the_other() -> None:
    """``||`` with a true side and ``&&`` with a false side have values in either order."""
    for text, value in (
        ("x == 3 || {e}", True),
        ("{e} || x == 3", True),
        ("x == 4 && {e}", False),
        ("{e} && x == 4", False),
    ):
        assert compiled(text.format(e=f"{A}.numa == 1"))(SCOPE) is value
    with pytest.raises(CelError):
        compiled(f"{A}.numa == 1 || x == 4")(SCOPE)


@pytest.mark.parametrize(
    "text",
    ["", "1 +", "(1", "a b", "x.nothing()", "nothing(1)", "has(x)", "#", "'open", "(" * 200, "1" * 20_000],
)
def test_what_is_no_expression_is_refused_with_its_place(text: str) -> None:
    """With a typed error, whatever the depth or length."""
    with pytest.raises(CelSyntaxError):
        compiled(text)


@given(st.text(alphabet="ab.12()[]!&|=<>?:,'\" +-*/%in", max_size=40))
def test_any_text_gives_a_value_or_a_typed_error(text: str) -> None:
    """No other exception comes out."""
    try:
        compiled(text)({"a": 1, "b": [1, 2]})
    except (CelSyntaxError, CelError):
        return
