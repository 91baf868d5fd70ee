"""The words of Kubernetes: names, keys, values, ports, percentages and quantities.

As the API server reads them: rules of apimachinery ``pkg/util/validation`` and ``pkg/api/resource``; every
function returns what is wrong, nothing for a legal word.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from planner.deploy.scheduler.quantities import quantity
from planner.errors import UnitError

Json = Mapping[str, Any]
Problems = Iterator[str]
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_PORT = re.compile(r"(?!-)(?!.*--)(?=.*[a-z])[-a-z0-9]{1,15}(?<!-)")
_PERCENT = re.compile(r"[0-9]+%")
_FILE_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def dns_label(text: str) -> str:
    """Return what is wrong with a label of RFC 1123."""
    return _name(text, _LABEL, 63, "a lowercase RFC 1123 label")


def dns_label_1035(text: str) -> str:
    """Return what is wrong with a label of RFC 1035, which begins with a letter."""
    return _name(text, _LABEL_1035, 63, "a DNS-1035 label")


def dns_subdomain(text: str) -> str:
    """Return what is wrong with a subdomain of RFC 1123."""
    return _name(text, _SUBDOMAIN, 253, "a lowercase RFC 1123 subdomain")


def path_segment(text: str) -> str:
    """Return what is wrong with a name that stands alone in a path, as names of roles do."""
    return "" if text not in ("", ".", "..") and not set("/%") & set(text) else f"{text!r} is no path segment"


def identifier(text: str) -> str:
    """Return what is wrong with an identifier of C."""
    return "" if _IDENTIFIER.fullmatch(text) else f"{text!r} is no C identifier"


def qualified_name(text: str) -> str:
    """Return what is wrong with a key of labels, annotations, taints or resources."""
    prefix, slash, name = text.rpartition("/")
    if slash and (not prefix or dns_subdomain(prefix)):
        return f"{text!r}: the part before the slash must be a DNS subdomain"
    return _name(name, _NAME_PART, 63, f"the name part of {text!r}")


def label_value(text: str) -> str:
    """Return what is wrong with the value of a label."""
    return _name(text, _VALUE, 63, "a label value")


def port_name(text: str) -> str:
    """Return what is wrong with the name of a port of a container."""
    return (
        "" if _PORT.fullmatch(text) else f"{text!r}: a port name has at most 15 of a-z, 0-9 and -, one letter"
    )


def port_number(number: int) -> str:
    """Return what is wrong with the number of a port."""
    return "" if 1 <= number <= 65535 else f"{number}: must be between 1 and 65535"


def port(value: int | str) -> str:
    """Return what is wrong with a port given by number or name."""
    return port_number(value) if isinstance(value, int) else port_name(value)


def variable(text: str) -> str:
    """Return what is wrong with the name of an environment variable (printable ASCII without ``=``)."""
    legal = text and all(" " <= sign <= "~" and sign != "=" for sign in text)
    return "" if legal else f"{text!r} cannot name an environment variable"


def file_key(text: str) -> str:
    """Return what is wrong with a key of a ConfigMap or Secret."""
    legal = _FILE_KEY.fullmatch(text) and len(text) <= 253 and text not in (".", "..")
    return (
        ""
        if legal and not text.startswith("..")
        else f"{text!r}: a key has only alphanumerics, '-', '_', '.'"
    )


def address(text: str) -> str:
    """Return what is wrong with an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return f"{text!r} is no IP address"
    return ""


def network(text: str) -> str:
    """Return what is wrong with a network in CIDR notation."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return f"{text!r} is no network in CIDR notation"
    return "" if "/" in text else f"{text!r} is no network in CIDR notation"


def count_or_percent(value: int | str) -> str:
    """Return what is wrong with a count of pods given as a number or percentage."""
    if isinstance(value, str):
        return "" if _PERCENT.fullmatch(value) else f"{value!r} is no percentage"
    return "" if value >= 0 else f"{value} is below zero"


def percentage(value: int | str) -> int | None:
    """Return the number of a percentage, ``None`` for a count."""
    return int(value[:-1]) if isinstance(value, str) and _PERCENT.fullmatch(value) else None


def amount(value: str | float) -> Fraction | int | None:
    """Return a quantity, ``None`` where the text is none."""
    try:
        return quantity(value)
    except UnitError:
        return None


def milli(value: Fraction | int) -> int:
    """Return a quantity in thousandths, rounded up, as CPUs are compared."""
    return -(-value * 1000 // 1)


def _name(text: str, form: re.Pattern[str], longest: int, what: str) -> str:
    if len(text) > longest:
        return f"{text[:20]!r}...: must be no more than {longest} characters"
    return "" if form.fullmatch(text) else f"{text!r} is not {what}"


def at(path: str, wrong: str) -> Problems:
    """Yield a problem at a place, nothing where ``wrong`` is empty."""
    if wrong:
        yield f"{path}: {wrong}"


def required(path: str, value: Any) -> Problems:
    """Yield a problem where a value is missing or empty."""
    if value in (None, "", [], {}):
        yield f"{path}: Required value"


def named(path: str, value: str | None, rule: Callable[[str], str]) -> Problems:
    """Yield what is wrong with a name that has to be there."""
    if not value:
        yield f"{path}: Required value"
    else:
        yield from at(path, rule(value))


def one_of(path: str, value: str | None, *words: str) -> Problems:
    """Yield a problem where a word is there but none of the supported ones."""
    if value and value not in words:
        yield f"{path}: Unsupported value {value!r}; supported: {', '.join(words)}"


def at_least(path: str, item: Json, least: int, *fields: str, most: int = 2**63 - 1) -> Problems:
    """Yield fields of an item whose number is out of range."""
    for field in fields:
        value = item.get(field)
        if value is not None and not least <= value <= most:
            yield f"{path}.{field}: {value} must be at least {least} and at most {most}"


def unique(path: str, values: list[Any]) -> Problems:
    """Yield a problem for each value that occurs twice."""
    seen: list[Any] = []
    for value in values:
        if value in seen and value not in (None, ""):
            yield f"{path}: Duplicate value {value!r}"
        seen.append(value)


def labels(path: str, pairs: Mapping[str, str] | None) -> Problems:
    """Yield what is wrong with a map of labels."""
    for key, value in (pairs or {}).items():
        yield from at(path, qualified_name(key))
        yield from at(path, label_value(value or ""))


def selector(path: str, value: Json | None) -> Problems:
    """Yield what is wrong with a label selector."""
    value = value or {}
    yield from labels(f"{path}.matchLabels", value.get("matchLabels"))
    for index, one in enumerate(value.get("matchExpressions") or []):
        where = f"{path}.matchExpressions[{index}]"
        operator, values = one.get("operator", ""), one.get("values") or []
        yield from at(f"{where}.key", qualified_name(one.get("key") or ""))
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield f"{where}.operator: {operator!r} is not a valid selector operator"
        elif (operator in ("In", "NotIn")) != bool(values):
            yield f"{where}.values: must be given for In and NotIn, and only there"
        for text in values:
            yield from at(f"{where}.values", label_value(text))
