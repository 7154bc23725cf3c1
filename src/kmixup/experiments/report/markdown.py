"""Reports and lists of claims as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kmixup.experiments.claims import Verdict
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
        lines += [f"## {table.title}: error under FGSM, by epsilon in 1/255", ""]
        lines += ["| | " + " | ".join(table.epsilons) + " |", "|---" * (len(table.epsilons) + 1) + "|"]
        for name, entries in table.rows:
            escaped = [entry.replace("|", "\\|") for entry in entries]
            lines.append(f"| {name} | " + " | ".join(escaped) + " |")
        lines.append("")
    if report.verdicts:
        lines += ["## Claims", "", *_claims_table(report.verdicts), ""]
    lines += [f"- {note}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def _claims_table(verdicts: Sequence[Verdict]) -> list[str]:
    rows = [f"| {v.claim.text} | **{v.verdict}** | {v.detail} |" for v in verdicts]
    return ["| claim | verdict | numbers |", "|---|---|---|", *rows]


def claims_to_markdown(reports: Sequence[Report]) -> str:
    """Every claim of some tables with its verdict, and the command that would test what no run has tested."""
    counts = dict.fromkeys(("held", "not held", "not tested"), 0)
    lines = []
    for report in reports:
        if not report.verdicts:
            continue
        name = report.recipe.name
        untested = f"`kmixup reproduce {name} --data-dir FOLDER` tests it."
        verdicts = [replace(v, detail=untested) if v.verdict == "not tested" else v for v in report.verdicts]
        lines += [f"## {name}: {report.recipe.title}", "", *_claims_table(verdicts), ""]
        for verdict in verdicts:
            counts[verdict.verdict] += 1
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    head = ["# Claims", "", f"{total}. Decided by runs alone (`kmixup claims`), each beside its table's protocol.", ""]
    return "\n".join(head + lines).rstrip() + "\n"
