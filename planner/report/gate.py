"""A gate's verdict as a table, as Markdown for a pull request, and as JUnit XML for a pipeline."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from planner.report.summary import Table
from planner.study.gates import Verdict

_MARKS = {"passed": "ok", "failed": "FAILED", "missing": "MISSING", "skipped": "skipped"}


def gate_table(verdict: Verdict) -> Table:
    """Return the outcomes as a table."""
    rows = tuple((one.name, _MARKS[one.state], one.text) for one in verdict.outcomes)
    return Table(f"Gate {verdict.name}", ("check", "state", "figure"), rows)


def gate_markdown(verdict: Verdict) -> str:
    """Return the outcomes as Markdown; cells hold no mark-up of their own."""
    count = len(verdict.failures)
    title = "passed" if verdict.ok else f"failed: {count} of {len(verdict.outcomes)} checks"
    lines = [
        f"### Gate {_cell(verdict.name)} {title}",
        "",
        "| check | state | figure |",
        "| --- | --- | --- |",
    ]
    for one in verdict.outcomes:
        mark = _MARKS[one.state]
        lines.append(f"| {_cell(one.name)} | {mark if one.ok else f'**{mark}**'} | {_cell(one.text)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    plain = " ".join(text.split())
    for mark in "\\`*_{}[]<>|#":
        plain = plain.replace(mark, f"\\{mark}")
    return plain


def gate_junit(verdict: Verdict) -> str:
    """Return the outcomes as a JUnit test suite; a missing figure is an error, a breach a failure."""
    failed = sum(one.state == "failed" for one in verdict.outcomes)
    missing = sum(one.state == "missing" for one in verdict.outcomes)
    skipped = sum(one.state == "skipped" for one in verdict.outcomes)
    counts = {"tests": len(verdict.outcomes), "failures": failed, "errors": missing, "skipped": skipped}
    suite = ET.Element(
        "testsuite", {"name": verdict.name, **{key: str(value) for key, value in counts.items()}}
    )
    for one in verdict.outcomes:
        case = ET.SubElement(suite, "testcase", {"classname": f"gate.{verdict.name}", "name": one.name})
        tag = {"failed": "failure", "missing": "error", "skipped": "skipped"}.get(one.state)
        if tag is not None:
            ET.SubElement(case, tag, {"message": one.text})
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
