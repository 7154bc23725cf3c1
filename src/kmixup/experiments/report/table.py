"""The parts of a report as texts, for all writers: entries, columns, sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kmixup.experiments.summary import CellReport, Grid, Report, row_name

HEADER = "Each entry: ours ± standard error (n) | published | difference. Test error in percent."


def distance(grid: Grid) -> str:
    """How far a part of a table is from the paper, in a sentence; empty if nothing can be compared."""
    gaps = [abs(cell.difference) for cell in grid.cells.values() if cell.difference is not None]
    if not gaps:
        return ""
    return f"Mean absolute difference from the published numbers: {np.mean(gaps):.2f} points ({len(gaps)} cells)."


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
        names = {name for cell in cells for name in cell.cell.published.attack}
        names |= {name for cell in cells for run in cell.runs for name in run.attack_error}
        epsilons = tuple(sorted(names, key=float))
        rows = tuple(
            (
                row_name(cell.cell.settings)
                + (f", alpha = {cell.cell.settings.alpha:g}" if cell.cell.settings.alpha else ""),
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
    ours, difference = "—", "—"
    if errors:
        spread = f" ± {np.std(errors, ddof=1) / math.sqrt(len(errors)):.2f}" if len(errors) > 1 else ""
        ours = f"{np.mean(errors):.2f}{spread} ({len(errors)})" + ("*" if cell.notes else "")
        difference = "—" if published is None else f"{np.mean(errors) - published:+.2f}"
    return " | ".join([ours, "—" if published is None else f"{published:.2f}", difference])
