"""Reports on a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kmixup.experiments.report.table import HEADER, attack_tables, column_name, distance, entry_text
from kmixup.experiments.summary import Report, grids


def print_report(report: Report, console: Console) -> None:
    """The report on a terminal."""
    console.print(f"\n[bold]{escape(report.recipe.name)}[/bold]: {escape(report.recipe.title)}\n{HEADER}")
    for grid in grids(report):
        for name, cell in grid.unmixed:
            console.print(f"{escape(grid.title)}, {escape(name)}: {entry_text(cell)}", highlight=False)
        table = Table(title=escape(grid.title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("")
        for alpha in grid.columns:
            table.add_column(column_name(grid, alpha).replace(", ", "\n"))
        for row in grid.rows:
            table.add_row(
                row, *(entry_text(grid.cells.get((row, alpha))).replace(" | ", "\n", 1) for alpha in grid.columns)
            )
        console.print(table)
        if distance(grid):
            console.print(distance(grid), highlight=False)
    for attacks in attack_tables(report):
        table = Table(title=f"{attacks.title}: error under FGSM, by epsilon in 1/255", title_justify="left")
        for column in ("", *attacks.epsilons):
            table.add_column(column)
        for name, entries in attacks.rows:
            table.add_row(name, *entries)
        console.print(table)
    colours = {"held": "green", "not held": "red", "not tested": "yellow"}
    for verdict in report.verdicts:
        console.print(f"[{colours[verdict.verdict]}]{verdict.verdict}[/]: {escape(verdict.claim.text)}")
        console.print(f"    {escape(verdict.detail)}", style="dim")
    for note in report.notes:
        console.print(f"  {escape(note)}", style="dim")
