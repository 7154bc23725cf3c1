"""Methods tuned by validation: which setting counts on a split, what a method gains, and what predicts that. Pure.

Nothing is searched inside a run: every trial is plain, and the choice is made here, from the runs' validation figures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from kmixup.estimate import Estimate
from kmixup.experiments.naming import cell_name, flat_settings, varied_settings
from kmixup.experiments.recipe import Cell, Recipe
from kmixup.experiments.run import Run
from kmixup.experiments.runs import one_origin
from kmixup.experiments.trial import Trial

__all__ = ["MEASURES", "Choice", "Relation", "Split", "gains", "relation", "tune_by_validation", "untuned"]

MEASURES = ("error", "nll", "calibration_error", "noise_error")
"""What a chosen run is judged by, on its test points: error, calibration error and error under noise in percent, the
negative log-likelihood in nats. Less is better."""

Split = tuple[str, int]
"""A data set, as the recipe's group, and the seed of its split."""


@dataclass(frozen=True)
class Choice:
    """What validation chose.

    Attributes:
        chosen: For each split, the run of each method that counts.
        grids: For each method, the settings that were chosen among, in words, in the recipe's order; the same on every
            split.
        incomplete: Splits that were begun and lack a run of the grids: they do not count.
    """

    chosen: Mapping[Split, Mapping[str, Run]]
    grids: Mapping[str, tuple[str, ...]]
    incomplete: tuple[Split, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The data sets, in the order of their first split."""
        return tuple(dict.fromkeys(group for group, _ in self.chosen))

    def values(self, method: str, measure: str) -> dict[str, dict[int, float]]:
        """A measure of the chosen runs of a method: by data set, then by seed."""
        found: dict[str, dict[int, float]] = {group: {} for group in self.groups}
        for (group, seed), runs in self.chosen.items():
            found[group][seed] = _measured(runs[method], measure)
        return found


def tune_by_validation(recipe: Recipe, runs: Iterable[Run], methods: Sequence[str]) -> Choice:
    """Choose, on every split and for every method, the run that errs least on the validation points.

    Of equal errors the smaller negative log-likelihood decides. Where not all settings were run everywhere, those count
    that were run on half of the splits or more, so that every split offers the same choice.

    Args:
        recipe: The data sets as groups, and all settings.
        runs: Of its trials; others, also those of another protocol, are left out.
        methods: Names of the methods to be compared.

    Returns:
        The choice. Splits that lack a setting are named and do not count.

    Raises:
        ValueError: If the runs of a cell are of different data, code or options.
    """
    named = _settings(recipe)
    by_split: dict[Split, dict[str, dict[str, Run]]] = {}
    for cell, run in _runs_of(recipe, runs):
        if run.trial.method in methods:
            split = by_split.setdefault((cell.group, run.trial.seed), {})
            split.setdefault(run.trial.method, {})[named[cell.settings.id]] = run
    begun = {split: found for split, found in sorted(by_split.items()) if len(found) == len(methods)}
    offered = dict.fromkeys((cell.settings.method, named[cell.settings.id]) for cell in recipe.cells)
    grids: dict[str, tuple[str, ...]] = {}
    for method in methods:
        counts = Counter(setting for found in begun.values() for setting in found[method])
        grids[method] = tuple(name for by, name in offered if by == method and 2 * counts[name] >= len(begun))
    order = list(recipe.groups)
    whole = {
        split: {method: _best(found[method][setting] for setting in grids[method]) for method in methods}
        for split, found in sorted(begun.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
        if all(set(grids[method]) <= set(found[method]) for method in methods)
    }
    return Choice(whole, grids, tuple(split for split in sorted(by_split) if split not in whole))


def untuned(recipe: Recipe, runs: Iterable[Run], arms: Mapping[str, Mapping[str, Any]]) -> Choice:
    """Arms of one setting each, on every split that has all of them.

    Args:
        recipe: The data sets as groups.
        runs: As for `tune_by_validation`.
        arms: Names, and the settings that pick a cell of each group.

    Raises:
        ValueError: If the runs of a cell are of different data, code or options.
    """
    found: dict[Split, dict[str, Run]] = {}
    for cell, run in _runs_of(recipe, runs):
        for arm, settings in arms.items():
            if cell.matches(settings):
                found.setdefault((cell.group, run.trial.seed), {})[arm] = run
    whole = {split: by_arm for split, by_arm in found.items() if len(by_arm) == len(arms)}
    return Choice(whole, {}, tuple(split for split in found if split not in whole))


def _runs_of(recipe: Recipe, runs: Iterable[Run]) -> Iterator[tuple[Cell, Run]]:
    """Runs of the cells' own protocols, each with its cell; all runs of a cell are of one origin."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.trial.protocol_id, []).append(run)
    for cell in recipe.cells:
        mine = found.get(cell.settings.id, [])
        one_origin(f"{cell.group}, {cell_name(cell)}", mine)
        yield from ((cell, run) for run in mine)


def gains(tuned: Choice, ours: str, theirs: str, measure: str) -> dict[str, Estimate]:
    """By how much one method's measure is below another's: for each data set, the mean over its splits."""
    mine, other = tuned.values(ours, measure), tuned.values(theirs, measure)
    return {
        group: Estimate.of([other[group][seed] - value for seed, value in mine[group].items()])
        for group in tuned.groups
    }


@dataclass(frozen=True)
class Relation:
    """How a number of some data sets goes with a gain on them.

    Attributes:
        rho: Spearman's rank correlation; nan if the number is the same everywhere.
        low: Lower end of its interval: 95 %, for all the numbers that were asked about together.
        high: Upper end.
        skill: One minus the squared error of predicting each data set's gain from the others', by a line through the
            ranks of the number, over that of predicting the others' mean: above 0 it predicts, else it does not.
        n: Data sets.
    """

    rho: float
    low: float
    high: float
    skill: float
    n: int

    @property
    def shown(self) -> bool:
        """Whether a relation was shown, and holds for data sets that were left out."""
        return (self.low > 0 or self.high < 0) and self.skill > 0


def relation(numbers: Sequence[float], gained: Sequence[float], *, asked: int = 1) -> Relation:
    """The relation of a number to a gain over data sets.

    Args:
        numbers: One per data set.
        gained: One per data set.
        asked: How many numbers are asked about: the intervals of all of them hold together (Bonferroni).

    Raises:
        ValueError: If there are fewer than five data sets.

    Source: the interval is Bonett and Wright's (2000), on Fisher's scale.
    """
    x, y, n = stats.rankdata(numbers), np.asarray(gained, dtype=float), len(gained)
    if n < 5:
        raise ValueError(f"a relation needs at least 5 data sets, got {n}.")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Relation(math.nan, -1.0, 1.0, 0.0, n)
    rho = float(np.corrcoef(x, stats.rankdata(y))[0, 1])
    half = stats.norm.isf(0.025 / asked) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = math.atanh(min(max(rho, -1 + 1e-12), 1 - 1e-12))
    return Relation(rho, math.tanh(centre - half), math.tanh(centre + half), _skill(x, y), n)


def _skill(x: np.ndarray, y: np.ndarray) -> float:
    ours = means = 0.0
    for left in range(len(y)):
        rest = np.arange(len(y)) != left
        slope = np.cov(x[rest], y[rest])[0, 1] / x[rest].var(ddof=1) if np.ptp(x[rest]) else 0.0
        mean = y[rest].mean()
        ours += (y[left] - mean - slope * (x[left] - x[rest].mean())) ** 2
        means += (y[left] - mean) ** 2
    return float(1 - ours / means)


def _best(runs: Iterable[Run]) -> Run:
    def rank(run: Run) -> tuple[float, float]:
        return (math.inf, math.inf) if run.validation is None else (run.validation.error, run.validation.nll)

    return min(runs, key=rank)


def _measured(run: Run, measure: str) -> float:
    """A run that diverged errs everywhere."""
    if measure == "noise_error":
        return 100 * max(run.noise_error.values()) if run.noise_error else 100.0
    if run.test is None:
        return math.inf if measure == "nll" else 100.0
    value = getattr(run.test, measure)
    return value if measure == "nll" else 100 * value


def _settings(recipe: Recipe) -> dict[str, str]:
    """What tells the settings of one method and data set apart, in words, by the id of the cell."""
    alike: dict[tuple[str, str], list[Trial]] = {}
    for cell in recipe.cells:
        alike.setdefault((cell.group, cell.settings.method), []).append(cell.settings)
    named = {}
    for trials in alike.values():
        varied = varied_settings(trials)
        for trial in trials:
            words, flat = _setting(trial), flat_settings(trial)
            words |= {name: f"{name} {flat[name]}" for name in varied if name in flat and name not in words}
            named[trial.id] = ", ".join(filter(None, words.values()))
    return named


def _setting(trial: Trial) -> dict[str, str]:
    """What a method has to set, in words, by the settings that they say."""
    if trial.method == "erm":
        return {"weight_decay": f"weight decay {trial.weight_decay:g}"}
    if not trial.mixes:
        return {f"method_options.{name}": f"{name} {value:g}" for name, value in trial.method_options.items()}
    return {
        "k": f"k {trial.k}" if trial.k > 1 else "",
        "alpha": f"alpha {trial.alpha:g}",
        "alpha_rule": f"alpha_k {trial.alpha_rule}" if trial.k > 1 and trial.alpha_rule != "none" else "",
    }
