"""A picture as HTML, for notebooks."""

from __future__ import annotations

from html import escape

from milepost.display.picture import Picture
from milepost.display.table import Table

#: Notebooks style tables themselves, hence the "!important". Colours are inherited, so that dark
#: themes stay readable.
_STYLE = """<style scoped>
div.milepost-run { font-size: 90%; line-height: 1.4; }
div.milepost-run .title { font-weight: bold; margin-bottom: .4em; }
div.milepost-run table { border-collapse: collapse; margin: .4em 0 .8em; }
div.milepost-run table th, div.milepost-run table td { padding: .15em .8em .15em 0;
  text-align: left !important; vertical-align: top; font-variant-numeric: tabular-nums; }
div.milepost-run table.rows th { border-bottom: 1px solid currentColor; }
div.milepost-run table th.number, div.milepost-run table td.number { text-align: right !important; }
</style>"""


def render(picture: Picture) -> str:
    """Return a picture as one self-contained ``div``; all text is escaped."""
    facts = "".join(
        f"<tr><th>{escape(label)}</th><td>{escape(text)}</td></tr>" for label, text in picture.facts
    )
    return wrap(
        f'<div class="title">{escape(picture.title)}</div><table>{facts}</table>'
        + table_html(picture.trials)
        + table_html(picture.errors)
    )


def wrap(body: str) -> str:
    """Return HTML with the style that all our tables share."""
    return f'{_STYLE}<div class="milepost-run">{body}</div>'


def table_html(table: Table) -> str:
    """Return a table as HTML; empty for one without rows."""
    if not table.rows:
        return ""
    filled = table.filled()
    classes = [' class="number"' if column.numeric else "" for column in filled.columns]
    heading = "".join(
        f"<th{attribute}>{escape(column.title)}</th>"
        for attribute, column in zip(classes, filled.columns, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{attribute}>{escape(cell)}</td>"
            for attribute, cell in zip(classes, row, strict=True)
        )
        + "</tr>"
        for row in filled.rows
    )
    more = f"<div>... and {table.more} more</div>" if table.more else ""
    return (
        f'<table class="rows"><thead><tr>{heading}</tr></thead><tbody>{rows}</tbody></table>{more}'
    )
