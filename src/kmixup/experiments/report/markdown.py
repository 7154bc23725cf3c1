"""Reports as Markdown."""

from __future__ import annotations

from kmixup.experiments.report.scorecard import claims_table
from kmixup.experiments.report.table import HEADER, attack_tables, column_name, distance, entry_text
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
        lines += ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for row in grid.rows:
            entries = [entry_text(grid.cells.get((row, alpha))).replace("|", "\\|") for alpha in grid.columns]
            lines.append(f"| {row} | " + " | ".join(entries) + " |")
        lines += ["", distance(grid), ""] if distance(grid) else [""]
    for table in attack_tables(report):
        lines += [f"## {table.title}", ""]
        lines += ["| | " + " | ".join(table.sizes) + " |", "|---" * (len(table.sizes) + 1) + "|"]
        for name, entries in table.rows:
            escaped = [entry.replace("|", "\\|") for entry in entries]
            lines.append(f"| {name} | " + " | ".join(escaped) + " |")
        lines.append("")
    if report.verdicts:
        lines += ["## Claims", "", *claims_table(report.verdicts), ""]
    lines += [f"- {note}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"
