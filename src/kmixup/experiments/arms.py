"""What a budgeted search tries: for each method as many settings, each of what that method has to set.

ERM has its weight decay, label smoothing its share, mixup its alpha, k-mixup its k and alpha as the recipe says; recipe
``"search"`` lets every method search the learning rate and the weight decay besides.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import optuna

from kmixup.experiments.datasets import Data
from kmixup.experiments.datasets.data import normalise
from kmixup.experiments.trial import Options, Trial
from kmixup.experiments.tuned import SEARCHED, Attempt, Search
from kmixup.tuning import ALPHAS, suggest

__all__ = ["Arm", "budget_of", "refit_arm", "search_arm"]

_FRESH = 1000  # seeds of refits begin here, far from those of the search

# Centre and factor to either side of what is searched.
_ALPHA, _SMOOTHING = (1.0, 20.0), (0.1, 5.0)


@dataclass(frozen=True)
class Arm:
    """One study: settings of one kind.

    Attributes:
        name: In the storage, and in words.
        size: Trials that it has.
        queue: Parameters that come first, or all there are.
        space: From a trial and the data to settings.
    """

    name: str
    size: int
    queue: tuple[Options, ...]
    space: Callable[[optuna.Trial, Data], Options]


def budget_of(search: Search, ks: Sequence[int]) -> tuple[int, int]:
    """Settings for each method; of those of k-mixup, how many come in a second search, at the xi of the first."""
    whole = {"heuristic": len(ks), "xi": len(ALPHAS) + len(ks), "grid": len(ks) * len(ALPHAS), "search": 20}
    budget = search.budget or whole[search.recipe]
    if search.recipe in ("heuristic", "grid") and budget > whole[search.recipe]:
        raise ValueError(
            f"recipe {search.recipe!r} has {whole[search.recipe]} settings of k-mixup here (k = "
            f"{', '.join(map(str, ks))}), got a budget of {budget}. Lower it, or take recipe 'search'."
        )
    if search.recipe == "xi" and budget < 2:
        raise ValueError(f"recipe 'xi' searches alpha and then k: it needs a budget of 2 at least, got {budget}.")
    return budget, min(len(ks), budget // 2) if search.recipe == "xi" else 0


def search_arm(search: Search, method: str, size: int, ks: Sequence[int], alpha: float | None = None) -> Arm:
    """The search of one method; with alpha, that of k at the xi of this alpha."""
    trial = search.trial
    decays = _spread(*_decay(trial), size)
    ks = sorted(ks, key=lambda k: abs(math.log2(k / 16)))  # the paper's heuristic first
    alphas = tuple(_spread(*_ALPHA, size)) if search.recipe == "xi" else ALPHAS
    queues: dict[str, list[Options]] = {
        "erm": [{"weight_decay": value} for value in decays],
        "label-smoothing": [{"smoothing": value} for value in _spread(*_SMOOTHING, size)],
        "mixup": [{"alpha": value} for value in _spread(*_ALPHA, size)],
        "k-mixup": [{"k": k} for k in ks],
    }
    name = method
    if search.recipe == "xi" and method == "k-mixup":
        name = "k-mixup, alpha at k = 1" if alpha is None else f"k-mixup, k at the xi of alpha = {alpha:g}"
        queues[method] = [{"alpha": value} for value in alphas] if alpha is None else queues[method]
    if search.recipe == "grid":
        queues["k-mixup"] = [{"k": k, "alpha": value} for k, value in product(ks, alphas)]
        random.Random(trial.seed).shuffle(queues["k-mixup"])
    if search.recipe == "search":  # the usual setting first, the sampler's afterwards
        usual = {"lr": trial.lr, "weight_decay": decays[0]}
        own: dict[str, Options] = {"erm": {}, "label-smoothing": {"smoothing": _SMOOTHING[0]}}
        own |= {"mixup": {"alpha": _ALPHA[0]}, "k-mixup": {"k": ks[0], "alpha": _ALPHA[0]}}
        queues = {method: [{**usual, **own[method]}] for method in SEARCHED}
    space = partial(_settings, search, method, tuple(sorted(ks)), alphas, alpha)
    return Arm(name, size, tuple(queues[method][:size]), space)


def _settings(
    search: Search,
    method: str,
    ks: Sequence[int],
    alphas: Sequence[float],
    alpha: float | None,
    trial: optuna.Trial,
    data: Data,
) -> Options:
    """The settings of one trial of a method."""
    found: Options = {"method": method}
    if search.recipe == "search":
        found["lr"] = trial.suggest_float("lr", *_ends(search.trial.lr, 10.0), log=True)
    if search.recipe == "search" or method == "erm":
        found["weight_decay"] = trial.suggest_float("weight_decay", *_ends(*_decay(search.trial)), log=True)
    if method == "label-smoothing":
        found["method_options"] = {"smoothing": trial.suggest_float("smoothing", *_ends(*_SMOOTHING), log=True)}
    if method == "mixup":
        found["alpha"] = trial.suggest_float("alpha", *_ends(*_ALPHA), log=True)
    if method == "k-mixup":
        # With the data, alpha is that of k = 1 at every k: but for the heuristic, which is alpha = 1 itself.
        x = None if search.recipe == "heuristic" else normalise(data.x_train, data.mean, data.std)
        size = min(search.trial.batch_size, len(data.x_train))
        bounds = _ends(*_ALPHA) if search.recipe == "search" else alphas
        found |= suggest(trial, search.recipe, x=x, alpha=alpha, ks=ks, alphas=bounds, batch_size=size)
    return found


def refit_arm(search: Search, method: str, best: Attempt) -> Arm:
    """The winner of a method on fresh seeds: others for another winner."""
    digest = hashlib.sha256(json.dumps(best.settings, sort_keys=True).encode()).hexdigest()[:8]
    queue = tuple({"seed": search.trial.seed + _FRESH + number} for number in range(search.refits))
    return Arm(f"{method}, its best anew ({digest})", search.refits, queue, partial(_again, best.settings))


def _again(settings: Options, trial: optuna.Trial, data: Data) -> Options:
    return {**settings, "seed": trial.suggest_int("seed", 0, 2**31)}


def _decay(trial: Trial) -> tuple[float, float]:
    return trial.weight_decay or 1e-4, 100.0


def _ends(centre: float, factor: float) -> tuple[float, float]:
    return centre / factor, centre * factor


def _spread(centre: float, factor: float, n: int) -> list[float]:
    """Some values from the centre outwards, evenly on a logarithmic scale, within a factor of it."""
    steps = [(step + 1) // 2 * (1 if step % 2 else -1) for step in range(n)]
    return [centre, *(float(f"{centre * factor ** (step / (n // 2 + 0.5)):.3g}") for step in steps[1:])]
