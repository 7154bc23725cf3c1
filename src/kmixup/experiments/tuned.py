"""A budgeted search, as records: what was asked, what was tried, and what the winners gave on fresh seeds. Pure."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field, model_validator

from kmixup.estimate import Estimate
from kmixup.experiments.files import type_settings
from kmixup.experiments.trial import Options, Strict, Trial
from kmixup.tuning import SearchRecipe

__all__ = ["RIVALS", "SEARCHED", "Attempt", "Refit", "Search", "Step", "Tuned", "title", "winner"]

SEARCHED = ("erm", "label-smoothing", "mixup", "k-mixup")
RIVALS = SEARCHED[:-1]
_NAMES = {"erm": "no mixing", "label-smoothing": "label smoothing"}

# An error in a run that diverged: never dropped, for that would flatter its method.
_DIVERGED = 1.0

Sampler = Literal["tpe", "random", "gp", "qmc"]
Pruner = Literal["none", "median", "hyperband", "halving"]


class Search(Strict):
    """What is asked.

    Attributes:
        trial: Data, model and training protocol that all methods share. Its ``validation`` share of the training points
            judges; its seed draws the data's own split, whose test points are never looked at.
        recipe: How k-mixup is searched, see `kmixup.suggest`.
        budget: Settings that each method may try; None: those that the recipe has.
        splits: Validation splits that judge a setting, each with weights and batches of its own.
        refits: Fresh splits, weights and batches on which the winner of each method is trained again.
        sampler: Optuna's, for recipe ``"search"``.
        pruner: Optuna's: whether settings that go badly are given up early. They count as tried.
    """

    trial: Trial
    recipe: SearchRecipe = "heuristic"
    budget: int | None = Field(default=None, ge=1)
    splits: int = Field(default=1, ge=1)
    refits: int = Field(default=5, ge=2)
    sampler: Sampler = "tpe"
    pruner: Pruner = "none"

    @model_validator(mode="after")
    def _holds_out(self) -> Search:
        if not self.trial.validation:
            raise ValueError("a search judges on training points that are held out: validation must be > 0, got 0.")
        if self.trial.method != "erm":
            raise ValueError(f"a search tries every method of {', '.join(SEARCHED)}: leave method, k and alpha out.")
        return self


@dataclass(frozen=True)
class Step:
    """One trial of a search that has ended.

    Attributes:
        study: What it belongs to, in words.
        setting: In words.
        error: Validation error, a share; None if the pruner gave it up.
        done: Trials that are finished.
        total: Trials that the search has.
    """

    study: str
    setting: str
    error: float | None
    done: int = 0
    total: int = 0


class Attempt(Strict):
    """One setting of one method, as the search judged it.

    Attributes:
        number: Of the trial in its study.
        searched: What was searched, by name; ``alpha`` is that of k = 1 where the recipe keeps xi.
        settings: What a trial has besides those that all share.
        error: Mean validation error, a share; None if the pruner gave it up.
        nll: Mean validation negative log-likelihood; None if given up or diverged.
        seconds: Time it took.
    """

    number: int
    searched: Options
    settings: Options
    error: float | None = None
    nll: float | None = None
    seconds: float | None = None

    @property
    def words(self) -> str:
        """The setting in words, as it is trained."""
        options = {**self.settings, **self.settings.get("method_options", {})}
        names = ("k", "alpha", "smoothing", "lr", "weight_decay")
        return ", ".join(f"{name} = {options[name]:.3g}" for name in names if name in options)


class Refit(Strict):
    """The winner of a method, trained anew on another split.

    Attributes:
        seed: Of the split, the weights and the batches; shared by the methods.
        error: Validation error, a share; None if it diverged.
        nll: Negative log-likelihood.
        calibration_error: Expected calibration error, a share.
    """

    seed: int
    error: float | None
    nll: float | None = None
    calibration_error: float | None = None


class Tuned(Strict):
    """What a search found.

    Attributes:
        search: What was asked.
        name: Of its studies in the storage.
        budget: Settings that each method tried.
        num_classes: Of the data.
        data_dir: Where its files are; None if nobody said.
        attempts: What was tried, by method.
        refits: What the winners gave, by method.
    """

    search: Search
    name: str
    budget: int
    num_classes: int
    data_dir: str | None = None
    attempts: dict[str, tuple[Attempt, ...]]
    refits: dict[str, tuple[Refit, ...]]

    def winner(self, method: str) -> Attempt:
        """The setting with the lowest validation error; of equals that of the higher likelihood, then the first."""
        return winner(method, self.attempts[method])

    def error(self, method: str) -> Estimate:
        """Validation error of a method's winner over the refits, percent."""
        return self._corrected([100 * _error(refit) for refit in self.refits[method]])

    def gain(self, over: str, method: str = "k-mixup") -> Estimate:
        """Percentage points by which a method's winner errs less than another's, refit by refit.

        The splits share rows, so the standard error is that of Nadeau and Bengio (2003): the variance of the mean
        counts the share of validation points beside the number of splits.
        """
        theirs = {refit.seed: _error(refit) for refit in self.refits[over]}
        found = [100 * (theirs[refit.seed] - _error(refit)) for refit in self.refits[method] if refit.seed in theirs]
        # Shares of one number of rows: equal differences must not differ in their last digits, see `Estimate.interval`.
        return self._corrected([round(difference, 9) for difference in found])

    def _corrected(self, values: list[float]) -> Estimate:
        share, plain = self.search.trial.validation, Estimate.of(values)
        return replace(plain, std_error=plain.std_error * math.sqrt(1 + plain.n * share / (1 - share)))

    def findings(self) -> Iterator[str]:
        """What was found, a sentence a rival and one of advice."""
        yield (
            f"k-mixup ({self.winner('k-mixup').words}), each method with its best of {self.budget} settings, over "
            f"{len(self.refits['k-mixup'])} fresh splits, percentage points of validation error with 95 % intervals:"
        )
        verdicts = {}
        for rival in RIVALS:
            gain = self.gain(rival)
            low, high = gain.interval()
            verdicts[rival] = "a gain" if low > 0 else "a loss" if high < 0 else "no difference is shown"
            yield f"against {title(rival)}: {gain.mean:+.2f} ({low:+.2f} to {high:+.2f}): {verdicts[rival]}."
        won = [title(rival) for rival in RIVALS if verdicts[rival] == "a gain"]
        if verdicts["erm"] == "a loss":
            yield "Advice: leave k-mixup out here."
        elif len(won) == len(RIVALS):
            yield "Advice: use k-mixup; it beats every rival of equal budget."
        elif "no mixing" in won:
            rest = " nor ".join(title(rival) for rival in RIVALS if verdicts[rival] != "a gain")
            yield f"Advice: k-mixup beats no mixing, but is not shown to beat {rest}; take the simpler of these."
        else:
            yield "Advice: no gain on no mixing is shown. Train without mixing, or decide with more --refits."

    def code(self) -> str:
        """The line to paste."""
        settings = self.winner("k-mixup").settings
        return f"mixer = KMixup(k={settings['k']}, alpha={settings['alpha']:.4g}, num_classes={self.num_classes})"

    def command(self, method: str = "k-mixup") -> str:
        """The command that trains a method's winner on all training points, and tests it on the test points."""
        trial = Trial.model_validate({**self.search.trial.model_dump(), **self.winner(method).settings})
        changed = trial.model_dump(mode="json", exclude_defaults=True, exclude={"validation"})
        place = ["--data-dir", self.data_dir] if self.data_dir else []
        return shlex.join(["kmixup", "train", *type_settings(changed), *place])

    def to_json(self) -> str:
        """Everything: the records, the gains, the findings, the line to paste."""
        gains = {}
        for rival in RIVALS:
            gain = self.gain(rival)
            low, high = (end if math.isfinite(end) else None for end in gain.interval())
            gains[rival] = {"points": gain.mean, "low": low, "high": high, "refits": gain.n}
        winners = {method: self.winner(method).model_dump(mode="json") for method in SEARCHED}
        summary = {"winners": winners, "gains": gains, "findings": list(self.findings()), "code": self.code()}
        return json.dumps({**summary, "command": self.command(), **self.model_dump(mode="json")}, indent=1) + "\n"


def winner(method: str, attempts: tuple[Attempt, ...]) -> Attempt:
    """The best of some attempts, see `Tuned.winner`.

    Raises:
        ValueError: If the pruner gave up all of them.
    """
    judged = [attempt for attempt in attempts if attempt.error is not None]
    if not judged:
        raise ValueError(f"the pruner gave up every setting of {method}. Search with pruner none.")
    return min(judged, key=lambda one: (one.error, math.inf if one.nll is None else one.nll, one.number))


def title(method: str) -> str:
    """A method in words."""
    return _NAMES.get(method, method)


def _error(refit: Refit) -> float:
    return _DIVERGED if refit.error is None else refit.error
