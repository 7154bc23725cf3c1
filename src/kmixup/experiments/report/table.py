"""The parts of a report as texts, for all writers: entries, columns, sentences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kmixup.experiments.naming import cell_name, varied_settings
from kmixup.experiments.summary import CellReport, Grid, Report

HEADER = "Each entry: ours ± standard error (n; what differs) | published | difference. Test error in percent."


def distance(grid: Grid) -> str:
    """How far a part of a table is from the paper, in a sentence; empty if nothing can be compared."""
    compared = [cell for cell in grid.cells.values() if cell.difference is not None]
    if not compared:
        return ""
    gaps = [abs(cell.difference) for cell in compared if cell.difference is not None]
    reduced = sum(cell.reduced for cell in compared)
    among = f", {reduced} of them of a reduced protocol" if reduced else ""
    return (
        f"Mean absolute difference from the published numbers: {np.mean(gaps):.2f} points ({len(gaps)} cells{among})."
    )


def column_name(grid: Grid, alpha: float) -> str:
    """A column: its alpha, and half of our xi beside the printed one."""
    if alpha == 0:
        return "no mixing"
    printed = {cell.cell.published.xi for (_, a), cell in grid.cells.items() if a == alpha} - {None}
    ours = [run.xi / 2 for (_, a), cell in grid.cells.items() if a == alpha for run in cell.runs if run.xi]
    parts = [f"alpha = {alpha:g}"]
    if printed:
        parts.append(
            f"xi/2 = {np.mean(ours):.2g} (paper {printed.pop():g})" if ours else f"paper xi = {printed.pop():g}"
        )
    return ", ".join(parts)


def entry_text(cell: CellReport | None) -> str:
    """Ours ± standard error (n) | published | difference; empty where the table has no cell."""
    if cell is None:
        return ""
    published = cell.cell.published.error
    parts = [cell.text(), "—" if published is None else f"{published:.2f}"]
    return " | ".join([*parts, "—" if cell.difference is None else f"{cell.difference:+.2f}"])


@dataclass(frozen=True)
class AttackTable:
    """Errors under attack of the cells of one part of a table.

    Attributes:
        title: Of the part.
        epsilons: Sizes of the attacks, in 1/255 of the pixel range.
        rows: Name of the cell, and an entry per epsilon: ours ± standard error (n) | published | difference.
    """

    title: str
    epsilons: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def attack_tables(report: Report) -> list[AttackTable]:
    """The parts of a report that have runs or published numbers under attack."""
    tables = []
    for group, title in report.recipe.groups.items():
        cells = [
            cell
            for cell in report.cells
            if cell.cell.group == group and (cell.cell.published.attack or any(run.attack_error for run in cell.runs))
        ]
        varied = varied_settings([cell.cell.settings for cell in cells])
        names = {name for cell in cells for name in cell.cell.published.attack}
        names |= {name for cell in cells for run in cell.runs for name in run.attack_error}
        epsilons = tuple(sorted(names, key=float))
        rows = tuple(
            (
                cell_name(cell.cell, varied),
                tuple(_attack_entry(cell, epsilon) for epsilon in epsilons),
            )
            for cell in cells
        )
        if rows:
            tables.append(AttackTable(title, epsilons, rows))
    return tables


def _attack_entry(cell: CellReport, epsilon: str) -> str:
    errors = [100 * run.attack_error[epsilon] for run in cell.runs if epsilon in run.attack_error]
    published = cell.cell.published.attack.get(epsilon)
    difference = "—" if published is None or not errors else f"{np.mean(errors) - published:+.2f}"
    return " | ".join([cell.estimate_text(errors), "—" if published is None else f"{published:.2f}", difference])
