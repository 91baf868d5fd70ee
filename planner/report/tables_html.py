"""Tables of a plan as a fragment of HTML, which notebooks show; all text is escaped."""

from __future__ import annotations

from html import escape

from planner.report.summary import Summary, Table


def summary_html(summary: Summary) -> str:
    """Return a title, its sentence and its tables; all but the first table are folded."""
    tables = [_table(table) for table in summary.tables]
    folded = "".join(
        f"<details><summary>{escape(table.title)}</summary>{html}</details>"
        for table, html in zip(summary.tables[1:], tables[1:], strict=True)
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in summary.notes)
    head = f"<h4>{escape(summary.title)}</h4><p>{escape(summary.sentence)}</p>"
    return f"<div>{head}{''.join(tables[:1])}{folded}{notes}</div>"


def rows_html(title: str, columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    """Return one table with a title."""
    return f"<div><h4>{escape(title)}</h4>{_table(Table(title, columns, rows))}</div>"


def _table(table: Table) -> str:
    head = "".join(f"<th scope='col'>{escape(column)}</th>" for column in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in table.notes)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"
