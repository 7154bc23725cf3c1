"""Cells of a table from runs: mean, standard error and n, the published number, and what must stand beside it. Pure.

Every number is ours +- standard error (n) | published | difference, in percent. A reduced protocol says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kmixup.estimate import Estimate
from kmixup.experiments.claims import Judged, Measure, judge_claim
from kmixup.experiments.naming import cell_name, cell_row, protocol, varied_settings
from kmixup.experiments.protocols import Protocol, protocols
from kmixup.experiments.recipe import Cell, Recipe
from kmixup.experiments.run import Match, Run
from kmixup.experiments.runs import one_origin

MEASURES = ("final", "best")


@dataclass(frozen=True)
class CellReport:
    """One cell: its runs, and the published number.

    Attributes:
        cell: The settings.
        runs: Runs of one protocol, by seed.
        protocol: Theirs, see `kmixup.experiments.protocols`; None without runs.
        measure: Which test error counts, after the last epoch or the best of all epochs.
        refused: Why the cell's runs do not count at all: they are of different data or code; else empty.
    """

    cell: Cell
    runs: tuple[Run, ...]
    protocol: Protocol | None = None
    measure: Measure = "final"
    refused: str = ""

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

    def mean_of(self, figure: Callable[[Run], float | None]) -> float | None:
        """A figure of a run, on average over the runs that have it; None without one."""
        known = [value for run in self.runs if (value := figure(run)) is not None]
        return float(np.mean(known)) if known else None

    @property
    def attacked(self) -> dict[str, Estimate]:
        """Error in percent under FGSM, by epsilon in 1/255."""
        return _by_size([run.attack_error for run in self.runs])

    @property
    def noisy(self) -> dict[str, Estimate]:
        """Error in percent under Gaussian noise, by standard deviation."""
        return _by_size([run.noise_error for run in self.runs])

    @property
    def match(self) -> Match | None:
        """What the matching did, on average over the runs that say so; None without one."""
        found = [run.match for run in self.runs if run.match is not None]
        means = {
            name: float(np.mean([getattr(match, name) for match in found])) for name in Match.model_fields if found
        }
        return Match(**means) if found else None

    @property
    def marks(self) -> dict[str, str]:
        """How the runs differ from what the cell asks for: what stands beside the number, and what that means."""
        marks = {"refused": self.refused} if self.refused else {}
        if self.protocol is not None:
            marks |= self.protocol.marks
            if diverged := sum(run.diverged for run in self.runs):
                marks[f"{diverged} diverged"] = f"{diverged} of {len(self.runs)} runs diverged"
            if not all(run.attainable for run in self.runs):
                most = self.runs[0].trial.max_alpha
                marks["capped"] = f"capped: alpha_k stopped at {most:g}, short of the xi of k = 1"
        return marks

    @property
    def notes(self) -> list[str]:
        """The marks in words, and how many trials are missing."""
        if self.refused:
            return [self.refused]
        missing = [f"{self.n} of {self.cell.trials} trials"] if 0 < self.n < self.cell.trials else []
        return [*self.marks.values(), *missing]

    @property
    def reduced(self) -> bool:
        """Whether the runs follow a smaller protocol than the published numbers."""
        return self.protocol is not None and self.protocol.reduced

    def text(self) -> str:
        """``ours +- standard error (n; marks)``, or a dash."""
        return self.estimate_text(list(self.errors.values()))

    def estimate_text(self, errors: Sequence[float]) -> str:
        """The same of other errors of these runs, such as those under an attack.

        Args:
            errors: In percent, one for each run that has one.
        """
        n, trials = len(errors), self.cell.trials
        if not n:
            return f"— ({'; '.join(self.marks)})" if self.marks else "—"
        spread = f" ± {np.std(errors, ddof=1) / math.sqrt(n):.2f}" if n > 1 else ""
        count = f"{n} of {trials}" if n < trials else str(n)
        return f"{np.mean(errors):.2f}{spread} ({'; '.join([count, *self.marks])})"


def _by_size(errors: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    sizes = sorted({size for of in errors for size in of}, key=float)
    return {size: Estimate.of([100 * of[size] for of in errors if size in of]) for size in sizes}


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
    verdicts: tuple[Judged, ...]

    @property
    def notes(self) -> list[str]:
        """What a reader must know: of the recipe and data, how cells differ from what they ask for, whence the runs."""
        notes = [self.recipe.note] if self.recipe.note else []
        for cell in self.cells:
            notes += [run.note for run in cell.runs[:1] if run.note]
        if any(cell.cell.settings.own_data for cell in self.cells):
            notes.append(
                "Where seeds split one file, splits share samples: ± and verdicts speak of splits of this file only."
            )
        kinds: dict[str, int] = {}
        for cell in self.cells:
            for note in cell.notes:
                kinds[note] = kinds.get(note, 0) + 1
        notes += [f"{note}: {count} of {len(self.cells)} cells" for note, count in kinds.items()]
        missing = sum(not cell.runs for cell in self.cells)
        notes += [f"no run yet: {missing} of {len(self.cells)} cells"] if missing else []
        return list(dict.fromkeys([*notes, *self._provenance]))

    @property
    def _provenance(self) -> list[str]:
        runs = [run for cell in self.cells for run in cell.runs]
        if not runs:
            return []
        commits = sorted({run.environment.commit[:9] or "unknown" for run in runs})
        days = sorted({run.finished[:10] for run in runs})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        shown = ", ".join(commits[:5]) + (f" and {len(commits) - 5} more" if len(commits) > 5 else "")
        cores = ", ".join(sorted({run.environment.core for run in runs}))
        of = "commit" if len(commits) == 1 else "commits"
        return [f"{len(runs)} runs, finished {when}; {of} {shown}; matching core: {cores}."]


def make_report(recipe: Recipe, runs: Iterable[Run], *, measure: Measure = "final") -> Report:
    """Gather the runs of a recipe's cells.

    Runs of different protocols are never averaged together: a cell takes the runs of its own protocol, or else those
    of the longest other one. A cell whose runs are of different data has none that count, and says so.

    Args:
        recipe: The table.
        runs: Any runs; those of other recipes are left out.
        measure: Test error after the last epoch, or of the best epoch (chosen on the test data, so optimistic).
    """
    by_cell: dict[str, list[Run]] = {}
    for run in runs:
        by_cell.setdefault(run.trial.cell_id, []).append(run)
    found = [by_cell.get(cell.settings.cell_id, []) for cell in recipe.cells]
    cells = tuple(_gather(cell, its, measure) for cell, its in zip(recipe.cells, found, strict=True))
    trusted = [_trusted(cell, its) for cell, its in zip(cells, found, strict=True)]
    judged = [judge_claim(claim, recipe.cells, trusted, measure) for claim in recipe.claims]
    return Report(recipe, cells, tuple(each for each in judged if each is not None))


def _gather(cell: Cell, runs: Sequence[Run], measure: Measure) -> CellReport:
    first, chosen = next(iter(protocols(cell, runs).items()), (None, ()))
    refused = _refusal(cell, chosen)
    return CellReport(cell, (), None, measure, refused) if refused else CellReport(cell, chosen, first, measure)


def _trusted(cell: CellReport, runs: Sequence[Run]) -> list[Run]:
    """What claims rest on: of a cell whose runs have different data they know nothing."""
    found = () if cell.refused else protocols(cell.cell, runs).values()
    return [run for its in found if not _refusal(cell.cell, its) for run in its]


def _refusal(cell: Cell, runs: Sequence[Run]) -> str:
    try:
        one_origin(f"{cell.settings.dataset}, {cell_name(cell)}", runs)
    except ValueError as error:
        return str(error)
    return ""


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
        protocol: How all its cells are trained, in a sentence.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[float, ...]
    cells: Mapping[tuple[str, float], CellReport]
    unmixed: tuple[tuple[str, CellReport], ...]
    protocol: str


def grids(report: Report) -> list[Grid]:
    """The parts of a report. No cell is left out: those that differ in any other setting have a row of their own."""
    parts = []
    for group, title in report.recipe.groups.items():
        mine = [cell for cell in report.cells if cell.cell.group == group]
        if not mine:
            continue
        varied = varied_settings([cell.cell.settings for cell in mine])
        # What mixes nothing has no alpha: it stands above the grid, unless there is nothing else.
        mixing = [cell for cell in mine if cell.cell.settings.mixes] or mine
        unmixed = tuple((cell_row(cell.cell, varied), cell) for cell in mine if cell not in mixing)
        by_place: dict[tuple[str, float], CellReport] = {}
        for cell in mixing:
            name, alpha, number = cell_row(cell.cell, varied), cell.cell.settings.alpha, 1
            # The same settings given twice, which only published numbers can tell apart.
            while by_place.setdefault((name if number == 1 else f"{name} [{number}]", alpha), cell) is not cell:
                number += 1
        rows = tuple(dict.fromkeys(row for row, _ in by_place))
        columns = tuple(sorted({alpha for _, alpha in by_place}))
        trained = protocol([cell.cell for cell in mine], varied)
        parts.append(Grid(title, rows, columns, by_place, unmixed, trained))
    return parts
