"""The scorecard: what of the paper holds, what is contradicted, what is open and what it would take. Pure.

Every table is judged as trained (alpha itself), and under each other reading of the paper that has runs of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kmixup.experiments.claims import Judged, Measure
from kmixup.experiments.misfit import Duel, Place, compare
from kmixup.experiments.readings import AS_TRAINED, READINGS
from kmixup.experiments.recipe import Recipe
from kmixup.experiments.run import Run
from kmixup.experiments.summary import Report, make_report

__all__ = ["Card", "Scorecard", "make_scorecard"]


@dataclass(frozen=True)
class Card:
    """A table under one reading.

    Attributes:
        table: Name of the table.
        reading: Name of the reading; empty for a recipe that contrasts readings.
        report: Its cells and verdicts.
    """

    table: str
    reading: str
    report: Report

    @property
    def main(self) -> bool:
        """Whether this is what the table is judged by: training with alpha itself, as the released code does."""
        return self.reading in ("", AS_TRAINED)

    @property
    def judged(self) -> tuple[Judged, ...]:
        """Its claims, decided."""
        return self.report.verdicts

    @property
    def coverage(self) -> str:
        """How much of the table was run."""
        cells = [cell for cell in self.report.cells if cell.runs]
        if not cells:
            return "nothing"
        seeds = sorted(len(cell.runs) for cell in cells)
        span = f"{seeds[0]}" if seeds[0] == seeds[-1] else f"{seeds[0]} to {seeds[-1]}"
        reduced = sum(cell.reduced for cell in cells)
        text = f"{len(cells)} of {len(self.report.cells)} cells, {span} of {cells[0].cell.trials} seeds"
        return text + (f", {reduced} cells on a reduced protocol" if reduced else "")


@dataclass(frozen=True)
class Scorecard:
    """All tables.

    Attributes:
        tables: Every table, under each reading that it was run in; as trained first, run or not.
        duels: As trained against another reading: names of the table and of the other reading, and the comparison.
    """

    tables: tuple[tuple[Card, ...], ...]
    duels: tuple[tuple[str, str, Duel], ...]

    @property
    def cards(self) -> tuple[Card, ...]:
        """The tables that have claims."""
        return tuple(card for cards in self.tables for card in cards if card.report.recipe.claims)


def make_scorecard(recipes: Sequence[Recipe], runs: Sequence[Run], *, measure: Measure = "final") -> Scorecard:
    """Judge every claim of these tables, and compare the readings.

    Args:
        recipes: The tables.
        runs: Any runs; those of other recipes are left out.
        measure: Test error after the last epoch, or of the best epoch; readings are always compared by the last.
    """
    by_cell: dict[str, list[Run]] = {}
    for run in runs:
        by_cell.setdefault(run.trial.cell_id, []).append(run)
    ids = {recipe.name: _ids(recipe) for recipe in recipes}
    tables: list[tuple[Card, ...]] = []
    duels: list[tuple[str, str, Duel]] = []
    for recipe in recipes:
        cards = _cards(recipe, by_cell, measure)
        tables.append(cards)
        # Table 2 repeats the cells of other tables, which are compared there.
        if cards[0].reading == AS_TRAINED and not any(ids[recipe.name] > other for other in ids.values()):
            duels += [(recipe.name, name, duel) for name, duel in _duels(recipe, by_cell)]
    return Scorecard(tuple(tables), tuple(duels))


# Of thousands of runs, those of one table.
_ByCell = Mapping[str, Sequence[Run]]


def _runs_of(recipes: Iterable[Recipe], by_cell: _ByCell) -> list[Run]:
    found = dict.fromkeys(cell.settings.cell_id for recipe in recipes for cell in recipe.cells)
    return [run for id_ in found for run in by_cell.get(id_, ())]


def _cards(recipe: Recipe, by_cell: _ByCell, measure: Measure) -> tuple[Card, ...]:
    """As trained, and every other reading with runs of its own; one card of a recipe that contrasts readings."""

    def card(name: str, of: Recipe) -> Card:
        return Card(recipe.name, name, make_report(of, _runs_of([of], by_cell), measure=measure))

    read = {name: recipe.read_as(name) for name in READINGS}
    main = _ids(read[AS_TRAINED])
    if len(main) < len(_ids(recipe)):
        return (card("", recipe),)
    others = [name for name in READINGS if name != AS_TRAINED and (_ids(read[name]) - main) & by_cell.keys()]
    return tuple(card(name, read[name]) for name in (AS_TRAINED, *others))


def _ids(recipe: Recipe) -> set[str]:
    return {cell.settings.cell_id for cell in recipe.cells}


def _duels(recipe: Recipe, by_cell: _ByCell) -> list[tuple[str, Duel]]:
    """The main reading against each other one, and each with the plain distance, by name.

    From runs of the full protocol that did not diverge, on the cells that have a printed error.
    """
    main, variants = recipe.read_as(AS_TRAINED), _variants(recipe)
    errors: dict[str, list[float]] = {}
    for run in _runs_of([main, *variants.values()], by_cell):
        if run.final_error is not None:
            errors.setdefault(run.trial.protocol_id, []).append(100 * run.final_error)
    found = []
    for name, other in variants.items():
        touched, reference = [], []
        for one, two in zip(main.cells, other.cells, strict=True):
            ids = [cell.settings.protocol_id for cell in (one, two)]
            ours = {side: errors[id_] for side, id_ in zip(("one", "other"), ids, strict=True) if id_ in errors}
            printed = one.published
            if printed.error is not None and ours:
                place = Place(one.settings.dataset, printed.error, one.printed_trials, printed.confidence, ours)
                (reference if ids[0] == ids[1] else touched).append(place)
        duel = compare("one", "other", touched, reference)
        found += [(name, duel)] if duel is not None else []
    return found


def _variants(recipe: Recipe) -> dict[str, Recipe]:
    readings = {name.replace("-", " "): recipe.read_as(name) for name in READINGS}
    plain = {f"{name}, plain distance": read.override(metric="euclidean") for name, read in readings.items()}
    found: dict[str, Recipe] = {}
    told = [_ids(recipe.read_as(AS_TRAINED))]
    for name, read in {**readings, **plain}.items():
        # Of a recipe that has the plain distance anyway, both are one.
        if _ids(read) not in told:
            found[name] = read
            told.append(_ids(read))
    return found
