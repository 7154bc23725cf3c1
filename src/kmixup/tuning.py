"""Searching k and alpha: the paper's three recipes, and a wider one, as search spaces for an objective of your own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

import torch

from kmixup.calibration import calibrate

__all__ = ["ALPHAS", "KS", "RECIPES", "SearchRecipe", "fitting", "suggest"]

SearchRecipe = Literal["heuristic", "xi", "grid", "search"]
RECIPES: tuple[SearchRecipe, ...] = get_args(SearchRecipe)

KS = (1, 2, 4, 8, 16, 32)
ALPHAS = (0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 100.0)
"""The columns of the paper's largest sweep (Table 9)."""


class Suggests(Protocol):
    """What is asked of a trial: an `optuna.trial.Trial`, or anything with these methods."""

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        """One of the choices."""
        ...

    def suggest_float(self, name: str, low: float, high: float, /, *, log: bool) -> float:
        """A number."""
        ...

    def set_user_attr(self, key: str, value: Any, /) -> None:
        """Remember something beside the parameters."""
        ...


def suggest(
    trial: Suggests,
    recipe: SearchRecipe = "search",
    *,
    x: Any = None,
    alpha: float | None = None,
    ks: Sequence[int] = KS,
    alphas: Sequence[float] = ALPHAS,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """The k and alpha that a trial of a search should train with.

    - ``"heuristic"``: alpha = 1, k a power of 2;
    - ``"xi"``: first, without ``alpha``, mixup (k = 1) with one of ``alphas``; then, with the best ``alpha`` of that
      search and with ``x``, one of ``ks`` that perturbs as much;
    - ``"grid"``: one of ``ks`` and one of ``alphas``;
    - ``"search"``: one of ``ks``, and any alpha between the least and the largest of ``alphas``.

    The trial's parameters are named k and alpha. The arguments that are returned are also its user attribute
    ``"kmixup"``, with ``attainable`` where alpha was calibrated.

    Example::

        def objective(trial):
            mixer = KMixup(**suggest(trial, batch_size=128), num_classes=10)
            return validation_error(train(mixer))

    Args:
        trial: An Optuna trial, or anything with its methods. Optuna need not be installed.
        recipe: See above.
        x: Training data as the mixer will see them, shape ``[N, ...]``. With them, alpha is that of k = 1, and a larger
            k gets the alpha_k that perturbs as much, see `kmixup.calibrate`. Without, alpha is used at every k.
        alpha: For ``"xi"``: the best alpha of k = 1.
        ks: The k to choose from.
        alphas: The alpha to choose from, or, for ``"search"``, whose least and largest bound it.
        batch_size: Samples per batch in training: a k of which two blocks do not fit is left out.

    Returns:
        ``{"k": k, "alpha": alpha}``, arguments of `kmixup.KMixup` and of the estimators for scikit-learn.

    Raises:
        ValueError: If the recipe is unknown, no k fits, or ``alpha`` and ``x`` do not go with the recipe.

    Paper: Appendix A, hyperparameter tuning.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {recipe!r}.")
    if alpha is not None and recipe != "xi":
        raise ValueError(f"alpha is the first result of recipe 'xi', got alpha={alpha} with {recipe!r}. Leave it out.")
    if alpha is not None and x is None:
        raise ValueError("recipe 'xi' keeps the perturbation of k = 1 on your data at every k: give them as x.")
    k, chosen = 1, 1.0 if alpha is None else alpha
    if recipe != "xi" or alpha is not None:
        k = int(trial.suggest_categorical("k", fitting(ks, batch_size)))
    if recipe == "search":
        chosen = trial.suggest_float("alpha", min(alphas), max(alphas), log=True)
    elif recipe == "grid" or (recipe == "xi" and alpha is None):
        chosen = float(trial.suggest_categorical("alpha", list(alphas)))
    found: dict[str, Any] = {"k": k, "alpha": chosen}
    if x is None or k == 1:
        trial.set_user_attr("kmixup", found)
        return found
    # Of its own stream: a trial that is run again gets the same alpha.
    calibration = calibrate(x, k, chosen, batch_size=batch_size, generator=torch.Generator().manual_seed(0))
    found = {"k": k, "alpha": calibration.alpha_k}
    trial.set_user_attr("kmixup", {**found, "attainable": calibration.attainable})
    return found


def fitting(ks: Sequence[int], batch_size: int | None) -> list[int]:
    """Those k of which two blocks fit into a batch.

    Raises:
        ValueError: If none does.
    """
    found = [k for k in ks if batch_size is None or k == 1 or 2 * k <= batch_size]
    if not found:
        raise ValueError(f"none of ks={list(ks)} fits twice into a batch of {batch_size}. Give a larger batch_size.")
    return found
