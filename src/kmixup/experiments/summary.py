"""Cells of a table from runs: mean, standard error and n, the published number, and what must stand beside it. Pure.

Every number is ours +- standard error (n) | published | difference, in percent. A reduced protocol says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from kmixup.experiments.claims import Errors, Verdict, judge
from kmixup.experiments.recipe import Cell, Recipe
from kmixup.experiments.run import Run
from kmixup.experiments.trial import REDUCIBLE, Trial

Measure = Literal["final", "best"]
MEASURES = ("final", "best")


@dataclass(frozen=True)
class CellReport:
    """One cell: its runs, and the published number.

    Attributes:
        cell: The settings.
        runs: Runs of one protocol: the cell's own if there are any, else the longest reduced one.
        measure: Which test error counts, after the last epoch or the best of all epochs.
    """

    cell: Cell
    runs: tuple[Run, ...]
    measure: Measure = "final"

    @property
    def errors(self) -> dict[int, float]:
        """Test error in percent by seed, without diverged runs."""
        name = "final_error" if self.measure == "final" else "best_error"
        return {run.trial.seed: 100 * error for run in self.runs if (error := getattr(run, name)) is not None}

    @property
    def n(self) -> int:
        """Runs that count."""
        return len(self.errors)

    @property
    def mean(self) -> float | None:
        """Mean test error in percent; None without runs."""
        return float(np.mean(list(self.errors.values()))) if self.n else None

    @property
    def std_error(self) -> float | None:
        """Standard error of the mean; None with fewer than two runs."""
        return float(np.std(list(self.errors.values()), ddof=1)) / math.sqrt(self.n) if self.n > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours minus published; None if either is missing."""
        published = self.cell.published.error
        return None if self.mean is None or published is None else self.mean - published

    @property
    def notes(self) -> list[str]:
        """What must stand beside the number."""
        notes = []
        if self.runs:
            notes += reductions(self.cell, self.runs[0])
            diverged = sum(run.diverged for run in self.runs)
            notes += [f"{diverged} of {len(self.runs)} runs diverged"] if diverged else []
            if not all(run.attainable for run in self.runs):
                notes.append("xi not attainable at this k")
            if self.n and self.n < self.cell.trials:
                notes.append(f"{self.n} of {self.cell.trials} trials")
        return notes

    def text(self) -> str:
        """``ours +- standard error (n)``, or a dash."""
        if self.mean is None:
            return "—"
        spread = f" ± {self.std_error:.2f}" if self.std_error is not None else ""
        return f"{self.mean:.2f}{spread} ({self.n})" + ("*" if self.notes else "")


@dataclass(frozen=True)
class Report:
    """A table of the paper beside our runs.

    Attributes:
        recipe: The table.
        cells: Its cells, in order.
        verdicts: Its claims, decided.
    """

    recipe: Recipe
    cells: tuple[CellReport, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def notes(self) -> list[str]:
        """What a reader must know: of the recipe, of the data, and how each kind of starred cell is reduced."""
        notes = [self.recipe.note] if self.recipe.note else []
        for cell in self.cells:
            notes += [run.note for run in cell.runs[:1] if run.note]
        kinds: dict[str, int] = {}
        for cell in self.cells:
            for note in cell.notes:
                kinds[note] = kinds.get(note, 0) + 1
        notes += [f"* {note} ({count} {'cell' if count == 1 else 'cells'})" for note, count in kinds.items()]
        return list(dict.fromkeys(notes))


def reductions(cell: Cell, run: Run) -> list[str]:
    """How a run's protocol is smaller than its cell's."""
    notes = []
    for name in REDUCIBLE:
        ours, full = getattr(run.trial, name), getattr(cell.settings, name)
        if ours != full:
            notes.append(
                f"{name} {ours if ours is not None else 'all'} instead of {full if full is not None else 'all'}"
            )
    return notes


def make_report(recipe: Recipe, runs: Iterable[Run], *, measure: Measure = "final") -> Report:
    """Gather the runs of a recipe's cells.

    Runs of different protocols are never averaged together: a cell takes the runs of its own protocol, or else those
    of the longest reduced one.

    Args:
        recipe: The table.
        runs: Any runs; those of other recipes are left out.
        measure: Test error after the last epoch, or of the best epoch (chosen on the test data, so optimistic).
    """
    by_cell: dict[str, list[Run]] = {}
    for run in runs:
        by_cell.setdefault(run.trial.cell_id, []).append(run)
    cells = tuple(CellReport(c, _one_protocol(c, by_cell.get(c.settings.cell_id, [])), measure) for c in recipe.cells)
    errors: list[Errors] = [_errors(cell) for cell in cells]
    verdicts = tuple(judge(claim, recipe.cells, errors) for claim in recipe.claims)
    # A verdict travels without its table: it says itself what it is not about.
    if any(reductions(cell.cell, cell.runs[0]) for cell in cells if cell.runs):
        verdicts = tuple(_about("On a reduced protocol", verdict) for verdict in verdicts)
    if any(cell.n < cell.cell.trials for cell in cells):
        verdicts = tuple(_about("On part of the trials", verdict) for verdict in verdicts)
    return Report(recipe, cells, verdicts)


def _about(what: str, verdict: Verdict) -> Verdict:
    return verdict if verdict.verdict == "not tested" else replace(verdict, detail=f"{what}: {verdict.detail}")


def _one_protocol(cell: Cell, runs: Sequence[Run]) -> tuple[Run, ...]:
    protocols: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        protocols.setdefault(tuple(getattr(run.trial, name) for name in REDUCIBLE), []).append(run)
    if not protocols:
        return ()
    own = tuple(getattr(cell.settings, name) for name in REDUCIBLE)

    def length(protocol: tuple[object, ...]) -> tuple[bool, float, float, int]:
        epochs, train_size = protocol
        size = math.inf if train_size is None else float(train_size)  # pyright: ignore[reportArgumentType]
        return protocol == own, size, float(epochs), len(protocols[protocol])  # pyright: ignore[reportArgumentType]

    return tuple(sorted(protocols[max(protocols, key=length)], key=lambda run: run.trial.seed))


def _errors(cell: CellReport) -> Errors:
    errors = {(seed, ""): error for seed, error in cell.errors.items()}
    for run in cell.runs:
        errors |= {(run.trial.seed, attack): 100 * error for attack, error in run.attack_error.items()}
    return errors


# --- grids: rows k, columns alpha, as the paper prints them -----------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """One part of a table as the paper prints it: a row per method and k, a column per alpha.

    Attributes:
        title: Of the part.
        rows: Row names.
        columns: Values of alpha.
        cells: By row and column.
        unmixed: Cells without an alpha, by name.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[float, ...]
    cells: Mapping[tuple[str, float], CellReport]
    unmixed: tuple[tuple[str, CellReport], ...] = ()


def grids(report: Report) -> list[Grid]:
    """The parts of a report; cells that differ in more than method, k and alpha get a row of their own."""
    parts = []
    for group, title in report.recipe.groups.items():
        mine = [cell for cell in report.cells if cell.cell.group == group]
        if not mine:
            continue
        varied = [
            name
            for name in ("dataset", "model", "metric", "alpha_rule", "pairing", "lam_per", "method_options")
            if len({str(getattr(cell.cell.settings, name)) for cell in mine}) > 1
        ]
        # ERM has no alpha: it stands above the grid, unless there is nothing else.
        mixing = [cell for cell in mine if cell.cell.settings.method != "erm"] or mine
        unmixed = tuple((_row(cell.cell, varied), cell) for cell in mine if cell not in mixing)
        by_place = {(_row(cell.cell, varied), cell.cell.settings.alpha): cell for cell in mixing}
        rows = tuple(dict.fromkeys(row for row, _ in by_place))
        columns = tuple(sorted({alpha for _, alpha in by_place}))
        parts.append(Grid(title, rows, columns, by_place, unmixed))
    return parts


def row_name(settings: Trial) -> str:
    """A method and its k as the rows of the tables name them."""
    names = {"erm": "ERM", "mixup": "k = 1", "k-mixup": f"k = {settings.k}"}
    return names.get(settings.method, f"{settings.method}, k = {settings.k}")


def _row(cell: Cell, varied: Sequence[str]) -> str:
    return ", ".join([row_name(cell.settings), *(str(getattr(cell.settings, each)) for each in varied)])
