"""Reports as Markdown."""

from __future__ import annotations

from kmixup.experiments.report.scorecard import claims_table
from kmixup.experiments.report.table import HEADER, attack_tables, column_name, distance, entry_text, markdown_table
from kmixup.experiments.summary import Report, grids


def to_markdown(report: Report) -> str:
    """The report as Markdown."""
    lines = [f"# {report.recipe.name}: {report.recipe.title}", "", HEADER, ""]
    for grid in grids(report):
        if grid.title != report.recipe.title:
            lines += [f"## {grid.title}", ""]
        lines += [grid.protocol, ""]
        for name, cell in grid.unmixed:
            lines += [f"{name}: {entry_text(cell)}", ""]
        columns = [column_name(grid, alpha) for alpha in grid.columns]
        rows = [(row, *(entry_text(grid.cells.get((row, alpha))) for alpha in grid.columns)) for row in grid.rows]
        lines += markdown_table(["", *columns], rows)
        lines += ["", distance(grid), ""] if distance(grid) else [""]
    for table in attack_tables(report):
        lines += [f"## {table.title}", ""]
        lines += [*markdown_table(["", *table.sizes], [(name, *entries) for name, entries in table.rows]), ""]
    if report.verdicts:
        lines += ["## Claims", "", *claims_table(report.verdicts), ""]
    lines += [f"- {note}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"
