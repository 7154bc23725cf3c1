"""Sweeps: many trials, on the processes of one machine or on a Ray cluster; resumed by running them again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import torch

from kmixup.experiments.checkpoints import checkpoint_dir, discard_checkpoint
from kmixup.experiments.run import Run
from kmixup.experiments.runs import RunStore
from kmixup.experiments.training import Training, check_names, run
from kmixup.experiments.trial import Trial

_POLL_SECONDS = 0.5
_RETRIES = 3


@dataclass(frozen=True)
class Outcome:
    """How one trial of a sweep ended.

    Attributes:
        trial: The settings.
        status: ``"done"``; ``"found"``: finished by another sweep; ``"elsewhere"``: another sweep is at it;
            ``"failed"``: it raised; ``"unwritable"``: its run could not be written.
        message: The error, if there was one.
    """

    trial: Trial
    status: Literal["done", "found", "elsewhere", "failed", "unwritable"]
    message: str = ""


@dataclass
class SweepResult:
    """How a sweep ended.

    Attributes:
        found: Trials that were finished before, or by another sweep meanwhile.
        done: Trials that this sweep finished.
        failed: Trials that raised, with their errors.
    """

    found: int = 0
    done: int = 0
    failed: list[Outcome] = field(default_factory=list)


@dataclass(frozen=True)
class _Work:
    """What a worker needs to know besides the trial."""

    folder: Path
    data_dir: Path | None
    device: str
    parent: int | None


def sweep(
    trials: Sequence[Trial],
    store: RunStore,
    *,
    data_dir: Path | None = None,
    device: str = "cpu",
    jobs: int = 1,
    ray: str | None = None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> SweepResult:
    """Run every trial that has no run yet.

    Killed at any moment, a sweep loses half a minute of the trials in progress and nothing else; the same call resumes.
    Several sweeps on one folder share the work.

    Args:
        trials: The settings, in the order to run them.
        store: Where runs are and go.
        data_dir: Where data files are.
        device: Where to train.
        jobs: Processes on this machine, one thread each.
        ray: Address of a Ray cluster (``"auto"``, ``"local"``, ``"ray://host:port"``) to use instead.
        on_outcome: Called in this process after each trial.

    Raises:
        OSError: If a run cannot be written (disk full, folder read-only). What was finished before is kept.
        ValueError: If a trial names a data set, model or method that does not exist.
    """
    for trial in trials:
        check_names(trial)
    result = SweepResult()
    pending = [trial for trial in trials if store.get(trial) is None]
    result.found = len(trials) - len(pending)
    store.check_writable()
    work = _Work(store.folder, data_dir, device, os.getpid() if jobs > 1 and not ray else None)
    while pending:
        elsewhere: list[Trial] = []
        outcomes = _on_ray(pending, store, work, ray) if ray else _on_processes(pending, work, jobs)
        for outcome in outcomes:
            if outcome.status == "unwritable":
                raise OSError(outcome.message)
            if outcome.status == "elsewhere":
                elsewhere.append(outcome.trial)
                continue
            if outcome.status == "failed":
                result.failed.append(outcome)
            elif outcome.status == "found":
                result.found += 1
            else:
                result.done += 1
            on_outcome(outcome)
        # Another sweep holds these; it may finish them, or die and leave them to us.
        pending = _wait_for(elsewhere, store, result, on_outcome)
    return result


def _wait_for(
    trials: list[Trial], store: RunStore, result: SweepResult, on_outcome: Callable[[Outcome], None]
) -> list[Trial]:
    """Wait until one of these trials is free again, or all are finished; returns those without a run."""
    while trials:
        waiting = []
        for trial in trials:
            if store.get(trial) is None:
                waiting.append(trial)
            else:
                result.found += 1
                on_outcome(Outcome(trial, "found"))
        if any(not store.is_claimed(trial) for trial in waiting):
            return waiting
        trials = waiting
        if trials:
            time.sleep(_POLL_SECONDS)
    return []


def _on_processes(trials: list[Trial], work: _Work, jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from (_run_and_store(trial, work) for trial in trials)
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = {trial.id: trial for trial in trials}
    for attempt in range(1, _RETRIES + 1):
        parallel = Parallel(jobs, backend="loky", return_as="generator_unordered", pre_dispatch="2*n_jobs")
        tasks = (delayed(_run_and_store)(trial, work) for trial in list(left.values()))
        outcomes = cast("Generator[Outcome]", parallel(tasks))
        try:
            for outcome in outcomes:
                del left[outcome.trial.id]
                yield outcome
            return
        except TerminatedWorkerError:
            # A worker died, from lack of memory most likely. Its trial wrote nothing, so it starts again.
            if attempt == _RETRIES:
                raise
        finally:
            outcomes.close()


def _run_and_store(trial: Trial, work: _Work) -> Outcome:
    if work.parent is not None:
        # Ctrl-C is the parent's to handle: it ends its workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    store = RunStore(work.folder)
    try:
        with store.claim(trial) as mine:
            if not mine:
                return Outcome(trial, "elsewhere")
            if store.get(trial) is not None:
                return Outcome(trial, "found")
            outcome = _attempt(trial, work)
            if isinstance(outcome, Run):
                store.put(outcome)
                discard_checkpoint(checkpoint_dir(work.folder), trial)
                return Outcome(trial, "done")
            return outcome
    except OSError as error:
        return Outcome(trial, "unwritable", f"cannot write to {work.folder}: {error}")


def _attempt(trial: Trial, work: _Work) -> Run | Outcome:
    def stop_as_orphan(training: Training) -> None:
        if work.parent is not None and os.getppid() != work.parent:
            os._exit(1)  # the sweep was killed: whoever resumes it will run this trial

    try:
        checkpoints = checkpoint_dir(work.folder)
        return run(trial, data_dir=work.data_dir, device=work.device, checkpoints=checkpoints, on_epoch=stop_as_orphan)
    except Exception as error:  # a trial's mistake must not end the others
        return Outcome(trial, "failed", f"{type(error).__name__}: {error}")


def _on_ray(trials: list[Trial], store: RunStore, work: _Work, address: str) -> Iterator[Outcome]:
    """Trials as Ray tasks. Runs come back to this process, which writes them: nodes need not share a disk.

    Ray starts the tasks of a lost worker or node again, elsewhere.
    """
    import ray

    started = not ray.is_initialized()
    if started:
        ray.init(address=None if address == "local" else address, log_to_driver=False, include_dashboard=False)
    try:
        # One core and one thread each.
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(_attempt)
        at_once = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting = iter(trials)
        with ExitStack() as claims:
            running: dict[Any, tuple[Trial, ExitStack]] = {}
            while True:
                for trial in islice(waiting, at_once - len(running)):
                    claim = claims.enter_context(ExitStack())
                    if claim.enter_context(store.claim(trial)) and store.get(trial) is None:
                        running[remote.remote(trial, work)] = trial, claim
                    else:
                        claim.close()
                        yield Outcome(trial, "elsewhere")
                if not running:
                    break
                ready, _ = ray.wait(list(running))
                trial, claim = running.pop(ready[0])
                yield _collect(trial, ray.get, ready[0], store)
                claim.close()
    finally:
        if started:
            ray.shutdown()


def _collect(trial: Trial, get: Callable[[Any], Run | Outcome], reference: Any, store: RunStore) -> Outcome:
    try:
        outcome = get(reference)
    except Exception as error:  # Ray's own: the worker died more often than it is retried
        return Outcome(trial, "failed", f"{type(error).__name__}: {str(error).splitlines()[0]}")
    if isinstance(outcome, Outcome):
        return outcome
    try:
        store.put(outcome)
    except OSError as error:
        return Outcome(trial, "unwritable", f"cannot write to {store.folder}: {error}")
    return Outcome(trial, "done")


def estimate_seconds(trial: Trial, *, data_dir: Path | None = None, device: str = "cpu", budget: float = 0.3) -> float:
    """Measured estimate of a trial's time: some steps and one evaluation, timed, times their number.

    Args:
        trial: The settings.
        data_dir: Where data files are.
        device: Where to train.
        budget: Seconds of steps to time, at least one step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            start = time.perf_counter()
            training = Training(trial, data_dir=data_dir, device=device)
            setup = time.perf_counter() - start
            return setup + trial.epochs * training.seconds_per_epoch(budget)
    finally:
        torch.set_num_threads(threads)
