"""Reports as one HTML page without outside resources."""

from __future__ import annotations

import html
import math

from kmixup.experiments.report.table import HEADER, attack_tables, column_name, distance
from kmixup.experiments.summary import CellReport, Report, grids


def to_html(report: Report) -> str:
    """The report as one page without outside resources: heat maps over k and alpha, claims, notes."""
    escape = html.escape
    body = [f"<h1>{escape(report.recipe.name)}: {escape(report.recipe.title)}</h1><p>{escape(HEADER)}</p>"]
    for grid in grids(report):
        everything = [*grid.cells.values(), *(cell for _, cell in grid.unmixed)]
        values = [cell.mean for cell in everything if cell.mean is not None]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        head = "".join(f"<th>{escape(column_name(grid, alpha))}</th>" for alpha in grid.columns)
        body.append(f"<h2>{escape(grid.title)}</h2><p>{escape(grid.protocol)}</p>")
        if low < high:
            body.append(f"<p>{_swatch(0)} {low:.2f} {_swatch(0.5)} to {_swatch(1)} {high:.2f} %, on a log scale</p>")
        body.append("<div><table>")
        for name, cell in grid.unmixed:
            body.append(f"<tr><th>{escape(name)}</th>{_html_entry(cell, low, high)}</tr>")
        body.append(f"<tr><th></th>{head}</tr>")
        for row in grid.rows:
            entries = "".join(_html_entry(grid.cells.get((row, alpha)), low, high) for alpha in grid.columns)
            body.append(f"<tr><th>{escape(row)}</th>{entries}</tr>")
        body.append(f"</table></div><p>{escape(distance(grid))}</p>")
    for table in attack_tables(report):
        head = "".join(f"<th>{escape(size)}</th>" for size in table.sizes)
        body.append(f"<h2>{escape(table.title)}</h2>")
        body.append(f"<div><table><tr><th></th>{head}</tr>")
        for name, row in table.rows:
            entries = "".join(f"<td>{escape(entry)}</td>" for entry in row)
            body.append(f"<tr><th>{escape(name)}</th>{entries}</tr>")
        body.append("</table></div>")
    if report.verdicts:
        body.append("<h2>Claims</h2><div><table><tr><th>claim</th><th>verdict</th><th>numbers</th></tr>")
        body += [
            f"<tr><td>{escape(v.claim.text)}</td><td><b>{v.outcome}</b></td><td>{escape(v.detail)}</td></tr>"
            for v in report.verdicts
        ]
        body.append("</table></div>")
    body.append("<ul>" + "".join(f"<li>{escape(note)}</li>" for note in report.notes) + "</ul>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(report.recipe.name)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}"
    "div{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0}"
    "th,td{padding:.35rem .7rem;border:1px solid #8888;text-align:left}th{background:#8882;font-weight:600}"
    "td small{opacity:.8;display:block}.heat{color:#222}i{display:inline-block;width:1.2em;height:1em}"
)


def _colour(heat: float) -> str:
    """From white to orange."""
    return f"hsl(28 90% {97 - 37 * heat:.0f}%)"


def _swatch(heat: float) -> str:
    return f'<i style="background:{_colour(heat)}"></i>'


def _html_entry(cell: CellReport | None, low: float, high: float) -> str:
    if cell is None:
        return "<td></td>"
    published = cell.cell.published.error
    beside = "not published" if published is None else f"published {published:.2f}"
    if cell.difference is not None:
        beside += f", {cell.difference:+.2f}"
    style = ""
    if cell.mean is not None:
        # On a logarithmic scale; half a point of error keeps zeros apart from the rest gently.
        span = math.log(high + 0.5) - math.log(low + 0.5)
        heat = (math.log(cell.mean + 0.5) - math.log(low + 0.5)) / span if span > 0 else 0.0
        style = f' class="heat" style="background:{_colour(heat)}"'
    title = f' title="{html.escape("; ".join(cell.notes))}"' if cell.notes else ""
    return f"<td{style}{title}>{html.escape(cell.text())}<small>{beside}</small></td>"
