"""Optuna studies of a search: one for each arm, in a storage that outlives the process and is shared by several."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from kmixup.experiments.arms import Arm
from kmixup.experiments.locks import hold, is_held
from kmixup.experiments.tuned import Attempt, Refit, Search

__all__ = ["Studies"]

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Studies:
    """The studies of one search.

    Args:
        search: What is asked.
        name: What the names of the studies begin with.
        storage: A database, as SQLAlchemy names it, or the path of a journal file.
        locks: Folder of the locks that tell trials in progress from those of a process that died.

    Attributes:
        name: What the names of the studies begin with.
    """

    def __init__(self, search: Search, name: str, storage: str, locks: Path) -> None:
        self.name = name
        self._search, self._storage, self._locks = search, storage, locks

    def open(self, arm: Arm) -> optuna.Study:
        """The study of an arm; made if there is none."""
        storage: BaseStorage
        if "://" in self._storage:
            try:
                storage = RDBStorage(self._storage)
            except SQLAlchemyError as error:  # the address stays unsaid: it may hold a password
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"the database of --storage cannot be opened: {reason}. Correct its address."
                ) from None
        else:
            storage = JournalStorage(JournalFileBackend(self._storage))
        name = f"{self.name}: {arm.name}"
        study = optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True)
        # A seed for each trial: resumed or not, the same draws.
        seed = self._search.trial.seed + len(study.get_trials(deepcopy=False))
        study.sampler, study.pruner = self._sampler(seed), self._pruner()
        return study

    def claim(self, arm: Arm, claims: ExitStack) -> tuple[optuna.Study, optuna.Trial | None]:
        """The next trial, held until the claims close; None if all are taken. One process at a time decides."""
        study = self.open(arm)
        locks = self._locks / hashlib.sha256(study.study_name.encode()).hexdigest()[:16]
        with ExitStack() as door:
            while not door.enter_context(hold(locks.with_suffix(".door"))):
                time.sleep(0.02)
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if not is_held(locks / str(trial.number)):  # its process died: its setting comes again
                    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            alive = (*_FINISHED, TrialState.RUNNING, TrialState.WAITING)
            trials = study.get_trials(deepcopy=False, states=alive)
            queued = [trial.system_attrs.get("fixed_params") for trial in trials]
            for params in arm.queue:
                if params not in queued:
                    study.enqueue_trial(params)
            if sum(trial.state is not TrialState.WAITING for trial in trials) >= arm.size:
                return study, None
            trial = study.ask()
            claims.enter_context(hold(locks / str(trial.number)))
            return study, trial

    def finished(self, arm: Arm) -> list[FrozenTrial]:
        """The first of an arm's finished trials, as many as it has: no method gets more than another."""
        return self.open(arm).get_trials(deepcopy=False, states=_FINISHED)[: arm.size]

    def attempts(self, arm: Arm) -> tuple[Attempt, ...]:
        """What an arm has tried."""
        return tuple(
            Attempt(
                number=trial.number,
                searched=trial.params,
                settings=trial.user_attrs["settings"],
                error=trial.value if trial.state is TrialState.COMPLETE else None,
                nll=trial.user_attrs.get("nll"),
                seconds=trial.duration.total_seconds() if trial.duration else None,
            )
            for trial in self.finished(arm)
        )

    def refits(self, arm: Arm) -> tuple[Refit, ...]:
        """What the winner of a method gave on fresh seeds."""
        return tuple(
            Refit(
                seed=trial.params["seed"],
                error=None if trial.user_attrs["nll"] is None else trial.value,
                nll=trial.user_attrs["nll"],
                calibration_error=trial.user_attrs["calibration_error"],
            )
            for trial in sorted(self.finished(arm), key=lambda trial: trial.params["seed"])
        )

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        made: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, n_startup_trials=5),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
            "gp": lambda: optuna.samplers.GPSampler(seed=seed, n_startup_trials=5),
            "qmc": lambda: optuna.samplers.QMCSampler(seed=self._search.trial.seed),
        }
        return made[self._search.sampler]()

    def _pruner(self) -> optuna.pruners.BasePruner:
        epochs = self._search.trial.epochs
        made: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
            "none": optuna.pruners.NopPruner,
            "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=epochs // 2),
            "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=epochs * self._search.splits),
            "halving": optuna.pruners.SuccessiveHalvingPruner,
        }
        return made[self._search.pruner]()
