"""A budgeted search on Optuna: every method gets the same number of settings, and its winner is trained anew.

Nothing here can reach a test point: what a setting is judged on are training points that were held out, and the engine
gets them in place of the test points.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import TrialState

from kmixup.experiments.arms import Arm, budget_of, refit_arm, search_arm
from kmixup.experiments.datasets import Data, load_data
from kmixup.experiments.points import Points, hold_out
from kmixup.experiments.provenance import origin_of
from kmixup.experiments.run import Run
from kmixup.experiments.studies import Studies
from kmixup.experiments.training import Training, run
from kmixup.experiments.trial import Trial
from kmixup.experiments.tuned import SEARCHED, Search, Step, Tuned, winner
from kmixup.tuning import KS, fitting

__all__ = ["tune"]

_held: dict[str, Data] = {}  # the data of the search that this process works on, by its name


@dataclass(frozen=True)
class _Work:
    """What a worker needs to know besides the arm. Paths are whole."""

    search: Search
    studies: Studies
    data_dir: Path | None
    device: str
    here: Path
    parent: int | None


def tune(
    search: Search,
    *,
    out: Path,
    storage: str | None = None,
    data_dir: Path | None = None,
    device: str = "cpu",
    jobs: int = 1,
    poll_seconds: float = 0.5,
    on_step: Callable[[Step], object] = lambda step: None,
) -> Tuned:
    """Search ERM, label smoothing, mixup and k-mixup with one budget, and train the winners anew.

    Killed at any moment, it loses the trials in progress; the same call goes on. Several calls with one storage and one
    folder share the work.

    Args:
        search: What is asked.
        out: Folder of the locks that tell trials in progress from those of a process that died.
        storage: A database, as SQLAlchemy names it (``"sqlite:///tune.db"``), or the path of a journal file; default:
            ``tune.journal`` in ``out``.
        data_dir: Where data files are.
        device: Where to train.
        jobs: Processes, one thread each.
        poll_seconds: How often to look whether another process has finished.
        on_step: Called in this process after each trial.

    Returns:
        What was found.

    Raises:
        ValueError: If a name or option is wrong, or the budget does not fit the recipe.
        OSError: If data cannot be read, or the storage cannot be written.

    Paper: Appendix A, hyperparameter tuning.
    """
    out.mkdir(parents=True, exist_ok=True)
    data_dir = None if data_dir is None else data_dir.resolve()
    trial = search.trial
    data = _load(trial, data_dir)
    ks = fitting(KS[1:], min(trial.batch_size, len(_fold(data, trial).data.x_train)))
    budget, second = budget_of(search, ks)
    place = storage if storage and "://" in storage else str(Path(storage or out / "tune.journal").resolve())
    studies = Studies(search, _name(search, budget, data), place, (out / ".locks").resolve())
    work = _Work(search, studies, data_dir, device, Path.cwd(), os.getpid() if jobs > 1 else None)
    _held.clear()
    _held[studies.name] = data
    total = len(SEARCHED) * (budget + search.refits)
    before = 0

    def show(step: Step, done: int) -> None:
        on_step(replace(step, done=done, total=total))

    def complete(arms: Iterable[Arm]) -> None:
        nonlocal before
        before = _complete(work, list(arms), jobs, poll_seconds, show, before)

    arms = {method: search_arm(search, method, budget, ks) for method in SEARCHED}
    if second:
        arms["k-mixup"] = search_arm(search, "k-mixup", budget - second, ks)
    complete(arms.values())
    if second:
        best = winner("k-mixup", studies.attempts(arms["k-mixup"])).searched["alpha"]
        arms["k-mixup"] = search_arm(search, "k-mixup", second, ks, best)
        complete([arms["k-mixup"]])
    attempts = {method: studies.attempts(arm) for method, arm in arms.items()}
    refits = {method: refit_arm(search, method, winner(method, attempts[method])) for method in SEARCHED}
    complete(refits.values())
    return Tuned(
        search=search,
        name=studies.name,
        budget=budget,
        num_classes=data.num_classes,
        data_dir=None if data_dir is None else str(data_dir),
        attempts=attempts,
        refits={method: studies.refits(arm) for method, arm in refits.items()},
    )


def _name(search: Search, budget: int, data: Data) -> str:
    """Of the studies of a search: what decides a trial's result, so that no other is taken for one of this search."""
    origin = origin_of(search.trial, data.source)
    decides = [search.trial.model_dump(mode="json"), search.recipe, search.splits, origin.source, origin.code]
    decides += [origin.options, None if search.recipe == "search" else budget]  # a larger budget goes on from a smaller
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
    return f"{search.trial.dataset}, {search.recipe}, {digest}"


def _complete(
    work: _Work,
    arms: Sequence[Arm],
    jobs: int,
    poll_seconds: float,
    on_step: Callable[[Step, int], object],
    before: int,
) -> int:
    """Run what is left of some arms; returns how many trials of the search are finished then."""
    while True:
        done = [len(work.studies.finished(arm)) for arm in arms]
        left = [[arm] * (arm.size - count) for arm, count in zip(arms, done, strict=True)]
        # In turn: whoever looks early sees something of each method.
        todo = [of[turn] for turn in range(max(map(len, left))) for of in left if turn < len(of)]
        if not todo:
            return before + sum(done)
        ended = 0
        for step in _steps(work, todo, jobs):
            if step is not None:
                ended += 1
                on_step(step, before + sum(done) + ended)
        if not ended:
            time.sleep(poll_seconds)  # all that is left is in the hands of other processes


def _steps(work: _Work, arms: Iterable[Arm], jobs: int) -> Iterator[Step | None]:
    if jobs == 1:
        yield from (_step(work, arm) for arm in arms)
        return
    from joblib import Parallel, delayed

    steps: Any = Parallel(jobs, backend="loky", return_as="generator_unordered", pre_dispatch="2*n_jobs")(
        delayed(_step)(work, arm) for arm in arms
    )
    try:
        yield from steps
    finally:
        steps.close()


def _step(work: _Work, arm: Arm) -> Step | None:
    """One trial of an arm; None if others have taken all."""
    if work.parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it ends its workers
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        os.chdir(work.here)
    with ExitStack() as claims:
        study, trial = work.studies.claim(arm, claims)
        if trial is None:
            return None
        error = None
        try:
            error = _evaluate(work, arm, trial)
            study.tell(trial, error)
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except BaseException:
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)  # the same call tries the setting again
            raise
    return Step(arm.name, ", ".join(f"{name} = {_short(value)}" for name, value in trial.params.items()), error)


def _short(value: float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _evaluate(work: _Work, arm: Arm, trial: optuna.Trial) -> float:
    """Mean validation error of a setting; what else is known goes to the trial's attributes."""
    search = work.search
    data = _data(work)
    settings = arm.space(trial, data)
    trial.set_user_attr("settings", settings)
    seeds = [settings["seed"]] if "seed" in settings else [search.trial.seed + split for split in range(search.splits)]
    prunes = search.pruner != "none" and "seed" not in settings  # a winner is trained to the end
    errors: list[float] = []
    runs: list[Run] = []

    def watch(training: Training) -> None:
        if work.parent is not None and os.getppid() != work.parent:
            os._exit(1)  # the search was killed: whoever resumes it tries this setting again
        if prunes and not training.diverged:
            so_far = fmean([*errors, training.curves["test_error"][-1]])
            trial.report(so_far, len(errors) * search.trial.epochs + training.epochs_done)
            if trial.should_prune():
                raise optuna.TrialPruned

    for seed in seeds:
        one = Trial.model_validate({**search.trial.model_dump(), **settings, "seed": seed})
        made = run(one, device=work.device, points=_fold(data, one), on_epoch=watch)
        runs.append(made)
        errors.append(1.0 if made.final_error is None else made.final_error)
    judged = [made.test for made in runs if made.test is not None]
    whole = len(judged) == len(runs)
    trial.set_user_attr("nll", fmean(one.nll for one in judged) if whole else None)
    trial.set_user_attr("calibration_error", fmean(one.calibration_error for one in judged) if whole else None)
    return fmean(errors)


def _fold(data: Data, trial: Trial) -> Points:
    """The training points of a trial, with those that it holds out in place of the test points."""
    points = hold_out(data, trial)
    judged = replace(points.data, x_test=points.x_validation, y_test=points.y_validation)
    return Points(judged, points.x_validation[:0], points.y_validation[:0])


def _data(work: _Work) -> Data:
    """The data of a search: its own seed draws their split, whatever the split of the training points."""
    name, trial = work.studies.name, work.search.trial
    if name not in _held:
        _held.clear()
        _held[name] = _load(trial, work.data_dir)
    return _held[name]


def _load(trial: Trial, data_dir: Path | None) -> Data:
    return load_data(trial.dataset, data_dir, trial.seed_for("data"), trial.dataset_options)
