"""`kmixup demo`: what k-mixup does, on real digits and in a picture, in about two minutes, and what that shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from statistics import mean

from rich.console import Console

from kmixup.estimate import Estimate
from kmixup.experiments.datasets import load_data
from kmixup.experiments.pictures.demo import method_name, picture
from kmixup.experiments.recipe import Cell, read_recipe
from kmixup.experiments.report import print_table
from kmixup.experiments.reproduce import run_trials
from kmixup.experiments.run import Run
from kmixup.experiments.runs import RunStore
from kmixup.style import save

_Share = Callable[[Run], float | None]


def demo(out: Path, *, jobs: int, trials: int | None = None, epochs: int | None = None, console: Console) -> bool:
    """Train the same network without mixup, with mixup and with k-mixup; print a table and what it shows; draw it.

    Args:
        out: Folder for the run files, ``demo.png`` and ``demo.svg``. Finished trials in it are not run again.
        jobs: Processes.
        trials: Seeds per method; default: the recipe's.
        epochs: Epochs; default: the recipe's.
        console: Where to print.

    Returns:
        Whether every trial succeeded.
    """
    with resources.as_file(resources.files("kmixup.experiments") / "demo.toml") as path:
        recipe = read_recipe(str(path)).override(trials=trials, epochs=epochs)
    settings = recipe.cells[0].settings
    # Decoded here once, so that the processes find the digits in the cache.
    data = load_data(settings.dataset, None, 0)
    store = RunStore(out)
    result = run_trials(recipe, store, jobs=jobs, console=console)
    runs = {method_name(cell): _runs(cell, store) for cell in recipe.cells}
    (epsilon,) = settings.attack_epsilons
    measures = ("test error", "calibration", f"FGSM {epsilon:g}/255", "distance", "same class", "seconds", "matching")
    entries = {name: dict(zip(measures, _entries(of), strict=True)) for name, of in runs.items()}
    console.print(f"\n{recipe.title}", markup=False, highlight=False)
    rows = [(measure, {name: of[measure] for name, of in entries.items()}) for measure in measures]
    print_table("", list(entries), rows, console)
    per_method = sorted({len(of) for of in runs.values()})
    console.print(
        f"{len(data.x_train):,} digits train, {len(data.x_test):,} test. Epochs: {settings.epochs}. Seeds per method, "
        f"shared by the methods: {' to '.join(map(str, per_method))}. alpha = {recipe.cells[-1].settings.alpha:g} for "
        "both mixups. Errors in percent; +- is the standard error. "
        "Calibration: expected calibration error. FGSM: error under that attack. Distance: root mean squared, of a "
        "digit and its partner. Same class: share of such pairs. Matching: its part of the seconds.",
        highlight=False,
    )
    none, one, many = runs
    for other in (one, none):
        console.print(f"\n{finding(many, runs[many], other, runs[other])}", markup=False, highlight=False)
    files = save(picture(recipe, list(runs.values())), out / "demo", endings=("png", "svg"))
    console.print(f"\nThe picture: {files[0]}, {files[1]}; the runs: {out}", soft_wrap=True, highlight=False)
    return not result.failed


def finding(ours: str, our_runs: Sequence[Run], theirs: str, their_runs: Sequence[Run]) -> str:
    """What the runs of one method show beside those of another, seed by seed, in a sentence.

    Args:
        ours: Name of the first method.
        our_runs: Its runs.
        theirs: Name of the second.
        their_runs: Its runs; those of common seeds are compared.
    """
    measures: dict[str, _Share] = {"test error": lambda run: run.final_error, "calibration error": _calibration}
    parts = [f"{name} {_difference(our_runs, their_runs, share)}" for name, share in measures.items()]
    return f"Found: {ours} against {theirs}, in percentage points with 95 % intervals: {'; '.join(parts)}."


def _difference(ours: Sequence[Run], theirs: Sequence[Run], share: _Share) -> str:
    first, second = (
        {run.trial.seed: 100 * value for run in runs if (value := share(run)) is not None} for runs in (ours, theirs)
    )
    # Rounded, so that equal differences of shares are equal to the last digit, see `Estimate.interval`.
    found = [round(first[seed] - second[seed], 9) for seed in first if seed in second]
    if len(found) < 2:
        return f"{found[0]:+.2f}, one seed, which has no interval and shows nothing" if found else "not known"
    estimate = Estimate.of(found)
    low, high = estimate.interval()
    verdict = "lower" if high < 0 else "higher" if low > 0 else "no difference is shown"
    return f"{estimate.mean:+.2f} ({low:+.2f} to {high:+.2f}, {len(found)} seeds): {verdict}"


def _calibration(run: Run) -> float | None:
    return None if run.test is None else run.test.calibration_error


def _entries(runs: Sequence[Run]) -> list[str]:
    matches = [run.match for run in runs if run.match is not None]
    return [
        _percent([run.final_error for run in runs]),
        _percent([_calibration(run) for run in runs]),
        _percent([error for run in runs for error in run.attack_error.values()]),
        f"{math.sqrt(mean(match.matched_sq_distance for match in matches)):.2f}" if matches else "",
        f"{100 * mean(match.same_class_share for match in matches):.0f} %" if matches else "",
        f"{mean(run.seconds.total for run in runs):.1f}" if runs else "",
        f"{mean(run.seconds.matching for run in runs):.2f}" if matches else "",
    ]


def _percent(shares: Sequence[float | None]) -> str:
    values = [100 * share for share in shares if share is not None]
    if not values:
        return ""
    estimate = Estimate.of(values)
    return f"{estimate.mean:.2f}" + (f" +- {estimate.std_error:.2f}" if estimate.n > 1 else "")


def _runs(cell: Cell, store: RunStore) -> list[Run]:
    found = (store.get(cell.trial(seed)) for seed in range(cell.trials))
    return [run for run in found if run is not None]
