"""What a search found, in a picture: the errors over k and alpha, and the gain over each rival."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from kmixup.experiments.tuned import RIVALS, Tuned, title
from kmixup.style import BLUE, GREY, WIDTH, style

__all__ = ["search_picture"]


def search_picture(tuned: Tuned) -> Figure:
    """A map of validation errors, and the gains of k-mixup with their intervals.

    Args:
        tuned: What was found.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _map(figure, left, tuned)
        _gains(right, tuned)
    return figure


def _map(figure: Figure, axes: Axes, tuned: Tuned) -> None:
    """A square for each setting of mixup (k = 1) and of k-mixup; the darker, the fewer errors."""
    tried = [
        (attempt.searched.get("alpha", attempt.settings["alpha"]), attempt.settings.get("k", 1), 100 * attempt.error)
        for method in ("mixup", "k-mixup")
        for attempt in tuned.attempts[method]
        if attempt.error is not None
    ]
    alphas, ks, errors = zip(*tried, strict=True)
    squares = axes.scatter(alphas, ks, c=errors, cmap="viridis", marker="s", s=420)
    middle = (min(errors) + max(errors)) / 2
    for alpha, k, error in tried:
        colour = "white" if error < middle else "black"
        axes.text(alpha, k, f"{error:.1f}", ha="center", va="center", fontsize=6, color=colour)
    axes.set(xscale="log", yscale="log", xlabel="alpha", ylabel="k", title="validation error, %")
    axes.set_xlim(min(alphas) / 1.8, max(alphas) * 1.8)
    axes.set_ylim(min(ks) / 1.6, max(ks) * 1.6)
    axes.yaxis.set_major_locator(FixedLocator(sorted(set(ks))))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    if tuned.search.recipe != "heuristic":
        axes.set_xlabel("alpha at k = 1; a larger k perturbs as much")
    figure.colorbar(squares, ax=axes)


def _gains(axes: Axes, tuned: Tuned) -> None:
    places = range(len(RIVALS))
    for place, rival in zip(places, RIVALS, strict=True):
        gain = tuned.gain(rival)
        low, high = gain.interval()
        if math.isfinite(low):
            axes.plot([low, high], [place, place], color=BLUE)
        else:  # nothing is known: from edge to edge
            axes.axhline(place, color=BLUE)
        axes.plot(gain.mean, place, "o", color=BLUE)
    axes.axvline(0, color=GREY, linewidth=0.7, linestyle="--")
    axes.set_yticks(places, [f"on {title(rival)}" for rival in RIVALS])
    axes.set_ylim(len(RIVALS) - 0.5, -0.5)
    axes.set(xlabel="percentage points, 95 % interval", title="gain of k-mixup, winners anew")
