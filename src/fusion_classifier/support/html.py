"""Pieces of HTML for notebooks: all content is escaped, and only style attributes are used."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; the first column of a row is its name."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = (
        "<tr>"
        + "".join(
            f'<td style="text-align:{"right" if number else "left"}">{escape(str(cell))}</td>'
            for number, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def html_facts(facts: Iterable[tuple[str, object]]) -> str:
    """A table of names and values."""
    left = 'style="text-align:left"'
    rows = (f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(str(value))}</td></tr>" for name, value in facts)
    return f"<table><tbody>{''.join(rows)}</tbody></table>"
