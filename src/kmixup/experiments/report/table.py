"""The parts of a report as texts, for all writers: entries, columns, sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kmixup.experiments.naming import cell_name, varied_settings
from kmixup.experiments.summary import CellReport, Grid, Report

HEADER = "Each entry: ours ± standard error (n; what differs) | published | difference. Test error in percent."


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table as lines of Markdown; a bar or a line's end in a text stays in its cell."""
    body = [head, *rows]
    lines = ["|" + "".join(f" {_in_cell(text)} |" if text else " |" for text in row) for row in body]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]


def _in_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").splitlines())


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
    """What else is measured of the cells of one part of a table: on inputs made worse, or of the probabilities.

    Attributes:
        title: Of the part, and what is measured.
        sizes: Sizes of the attacks or of the noise, or names of measures, as texts.
        rows: Name of the cell, and an entry per size: ours ± standard error (n) | published | difference; of the
            probabilities nothing is published.
    """

    title: str
    sizes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def attack_tables(report: Report) -> list[AttackTable]:
    """The parts of a report that have runs or published numbers under attack, runs under noise, or probabilities."""
    tables = []
    for group, title in report.recipe.groups.items():
        mine = [cell for cell in report.cells if cell.cell.group == group]
        attacked = [([run.attack_error for run in cell.runs], cell.cell.published.attack) for cell in mine]
        noisy = [([run.noise_error for run in cell.runs], {}) for cell in mine]
        tables += _worsened(f"{title}: error under FGSM, by epsilon in 1/255", mine, attacked)
        tables += _worsened(f"{title}: error under Gaussian noise, by standard deviation", mine, noisy)
        tables += _probabilities(title, mine)
    return tables


def _probabilities(title: str, cells: Sequence[CellReport]) -> list[AttackTable]:
    found = [(cell, [run.test for run in cell.runs if run.test is not None]) for cell in cells]
    varied = varied_settings([cell.cell.settings for cell, tests in found if tests])
    rows = [
        (
            cell_name(cell.cell, varied),
            (
                cell.estimate_text([test.nll for test in tests]),
                cell.estimate_text([100 * test.calibration_error for test in tests]),
            ),
        )
        for cell, tests in found
        if tests
    ]
    measures = ("negative log-likelihood, nats", "expected calibration error, %")
    return [AttackTable(f"{title}: predicted probabilities", measures, tuple(rows))] if rows else []


# Errors of the runs by size, shares; published errors by size, percent.
_Worsened = tuple[Sequence[Mapping[str, float]], Mapping[str, float]]


def _worsened(title: str, cells: Sequence[CellReport], errors: Sequence[_Worsened]) -> list[AttackTable]:
    found = [(cell, ours, printed) for cell, (ours, printed) in zip(cells, errors, strict=True) if printed or any(ours)]
    sizes = tuple(sorted({size for _, ours, printed in found for of in (*ours, printed) for size in of}, key=float))
    varied = varied_settings([cell.cell.settings for cell, _, _ in found])
    rows = [
        (cell_name(cell.cell, varied), tuple(_attack_entry(cell, size, ours, printed) for size in sizes))
        for cell, ours, printed in found
    ]
    return [AttackTable(title, sizes, tuple(rows))] if rows else []


def _attack_entry(
    cell: CellReport, size: str, ours: Sequence[Mapping[str, float]], printed: Mapping[str, float]
) -> str:
    errors = [100 * of[size] for of in ours if size in of]
    published = printed.get(size)
    difference = "—" if published is None or not errors else f"{np.mean(errors) - published:+.2f}"
    return " | ".join([cell.estimate_text(errors), "—" if published is None else f"{published:.2f}", difference])
