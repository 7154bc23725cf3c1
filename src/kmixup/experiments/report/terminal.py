"""Reports on a terminal; where a table is too wide, its entries one by one, so that no number is ever cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kmixup.experiments.report.table import HEADER, attack_tables, column_name, distance, entry_text
from kmixup.experiments.summary import Grid, Report, grids


def print_report(report: Report, console: Console) -> None:
    """The report on a terminal."""
    console.print(f"\n[bold]{escape(report.recipe.name)}[/bold]: {escape(report.recipe.title)}\n{HEADER}")
    for grid in grids(report):
        console.print(f"\n[italic]{escape(grid.title)}[/italic]\n{escape(grid.protocol)}", highlight=False)
        for name, cell in grid.unmixed:
            _print_entry(name, entry_text(cell), console)
        _print_grid(grid, console)
        if distance(grid):
            console.print(distance(grid), highlight=False)
    for attacks in attack_tables(report):
        console.print(f"\n[italic]{escape(attacks.title)}[/italic]")
        rows = [(name, dict(zip(attacks.sizes, entries, strict=True))) for name, entries in attacks.rows]
        print_table("", attacks.sizes, rows, console, together=False)
    colours = {"held": "green", "contradicted": "red", "undecided": "yellow", "not tested": "dim"}
    for verdict in report.verdicts:
        console.print(f"[{colours[verdict.outcome]}]{verdict.outcome}[/]: {escape(verdict.claim.text)}")
        console.print(f"    {escape(verdict.detail)}", style="dim")
    for note in report.notes:
        console.print(f"  {escape(note)}", style="dim")


def print_table(
    corner: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Mapping[str, str]]],
    console: Console,
    *,
    together: bool = True,
) -> None:
    """A table of texts; line by line if the terminal is too narrow for it, so that nothing is ever cut.

    Args:
        corner: Heading of the rows' names.
        columns: Headings.
        rows: Name, and entries by column; a column that a row lacks stays empty.
        console: Where to print.
        together: Whether a narrow terminal shows the entries of a row in one sentence, or each in a line of its own.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(escape(corner), no_wrap=True)
    for column in columns:
        table.add_column(escape(column.replace(", ", "\n")), no_wrap=True, justify="right" if together else "left")
    for name, entries in rows:
        table.add_row(escape(name), *(escape(entries.get(column, "").replace(" | ", "\n", 1)) for column in columns))
    if Console(width=10_000).measure(table).maximum <= console.width:
        console.print(table)
        return
    for name, entries in rows:
        if together:
            text = ", ".join(f"{column} {entry}" for column, entry in entries.items() if entry)
            console.print(f"{escape(name)}: {escape(text)}", highlight=False)
        else:
            for column, entry in entries.items():
                _print_entry(f"{name}, {column.partition(', ')[0]}", entry, console)


def _print_grid(grid: Grid, console: Console) -> None:
    columns = {alpha: column_name(grid, alpha) for alpha in grid.columns}
    rows = [
        (
            row,
            {name: entry_text(grid.cells[row, alpha]) for alpha, name in columns.items() if (row, alpha) in grid.cells},
        )
        for row in grid.rows
    ]
    print_table("", list(columns.values()), rows, console, together=False)


def _print_entry(name: str, entry: str, console: Console) -> None:
    console.print(f"{escape(name)}: {escape(entry)}", highlight=False)
