"""Sweeps: many trials, on the processes of one machine or on a Ray cluster; resumed by running them again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

from kmixup.experiments.checkpoints import checkpoint_dir, discard_checkpoint
from kmixup.experiments.provenance import Origins
from kmixup.experiments.run import Origin, Run
from kmixup.experiments.runs import RunStore
from kmixup.experiments.training import Training, run
from kmixup.experiments.trial import Trial

_RETRIES = 3

_Task = tuple[Trial, Origin | None]


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
    """What a worker needs to know besides the trial. Paths are whole: a worker may be started somewhere else."""

    folder: Path
    data_dir: Path | None
    device: str
    here: Path
    parent: int | None


def sweep(
    trials: Sequence[Trial],
    store: RunStore,
    *,
    origins: Origins | None = None,
    data_dir: Path | None = None,
    device: str = "cpu",
    jobs: int = 1,
    ray: str | None = None,
    poll_seconds: float = 0.5,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> SweepResult:
    """Run every trial that has no run of today's data and code yet.

    Killed at any moment, a sweep loses half a minute of the trials in progress and nothing else; the same call resumes.
    Several sweeps on one folder share the work.

    Args:
        trials: The settings, in the order to run them.
        store: Where runs are and go.
        origins: What the data are, if they were looked at before; with the same ``data_dir``.
        data_dir: Where data files are.
        device: Where to train.
        jobs: Processes on this machine, one thread each.
        ray: Address of a Ray cluster (``"auto"``, ``"local"``, ``"ray://host:port"``) to use instead. A task has one
            core, and one GPU with ``device="cuda"``. It works in this folder, and data files are where they are here:
            both must be at the same path on every node.
        poll_seconds: How often to look whether another sweep has finished a trial.
        on_outcome: Called in this process after each trial.

    Raises:
        OSError: If a run cannot be written (disk full, folder read-only). What was finished before is kept.
        ValueError: If a trial names a data set, model or method that does not exist, or an option of one is wrong.
    """
    origins = origins or Origins(data_dir)
    result = SweepResult()
    wanted = {trial.id: origins.of(trial) for trial in trials}

    def finished(trial: Trial) -> bool:
        return store.get(trial, wanted[trial.id]) is not None

    pending = [trial for trial in trials if not finished(trial)]
    result.found = len(trials) - len(pending)
    store.check_writable()
    work = _Work(
        store.folder.resolve(),
        None if data_dir is None else data_dir.resolve(),
        device,
        Path.cwd(),
        os.getpid() if jobs > 1 and not ray else None,
    )
    while pending:
        elsewhere: list[Trial] = []
        tasks = [(trial, wanted[trial.id]) for trial in pending]
        outcomes = _on_ray(tasks, store, work, ray) if ray else _on_processes(tasks, work, jobs)
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
        pending = _wait_for(elsewhere, store, finished, result, on_outcome, poll_seconds)
    return result


def _wait_for(
    trials: list[Trial],
    store: RunStore,
    finished: Callable[[Trial], bool],
    result: SweepResult,
    on_outcome: Callable[[Outcome], None],
    poll_seconds: float,
) -> list[Trial]:
    """Wait until one of these trials is free again, or all are finished; returns those without a run."""
    while trials:
        waiting = []
        for trial in trials:
            if not finished(trial):
                waiting.append(trial)
            else:
                result.found += 1
                on_outcome(Outcome(trial, "found"))
        if any(not store.is_claimed(trial) for trial in waiting):
            return waiting
        trials = waiting
        if trials:
            time.sleep(poll_seconds)
    return []


def _on_processes(tasks: list[_Task], work: _Work, jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from (_run_and_store(trial, origin, work) for trial, origin in tasks)
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = {trial.id: (trial, origin) for trial, origin in tasks}
    for attempt in range(1, _RETRIES + 1):
        parallel = Parallel(jobs, backend="loky", return_as="generator_unordered", pre_dispatch="2*n_jobs")
        calls = (delayed(_run_and_store)(trial, origin, work) for trial, origin in list(left.values()))
        outcomes = cast("Generator[Outcome]", parallel(calls))
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


def _run_and_store(trial: Trial, origin: Origin | None, work: _Work) -> Outcome:
    if work.parent is not None:
        # Ctrl-C is the parent's to handle: it ends its workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _go_to(work.here)
    store = RunStore(work.folder)
    try:
        with store.claim(trial) as mine:
            if not mine:
                return Outcome(trial, "elsewhere")
            if store.get(trial, origin) is not None:
                return Outcome(trial, "found")
            outcome = _attempt(trial, work)
            if isinstance(outcome, Run):
                store.put(outcome)
                discard_checkpoint(checkpoint_dir(work.folder), trial)
                return Outcome(trial, "done")
            return outcome
    except OSError as error:
        return Outcome(trial, "unwritable", store.unwritable(error))


def _go_to(folder: Path) -> None:
    """Work in the sweep's own folder, where relative paths and the user's modules are."""
    if folder.is_dir():  # on another machine it need not exist, for data that need no files
        os.chdir(folder)


def _attempt(trial: Trial, work: _Work) -> Run | Outcome:
    def stop_as_orphan(training: Training) -> None:
        if work.parent is not None and os.getppid() != work.parent:
            os._exit(1)  # the sweep was killed: whoever resumes it will run this trial

    try:
        checkpoints = checkpoint_dir(work.folder)
        return run(trial, data_dir=work.data_dir, device=work.device, checkpoints=checkpoints, on_epoch=stop_as_orphan)
    except Exception as error:  # a trial's mistake must not end the others
        return Outcome(trial, "failed", f"{type(error).__name__}: {error}")


def _on_worker(trial: Trial, work: _Work) -> Run | Outcome:
    """A task of Ray: the run goes back to the sweep, the checkpoint has served."""
    _go_to(work.here)
    outcome = _attempt(trial, work)
    if isinstance(outcome, Run):
        with suppress(OSError):
            discard_checkpoint(checkpoint_dir(work.folder), trial)
    return outcome


def _on_ray(tasks: list[_Task], store: RunStore, work: _Work, address: str) -> Iterator[Outcome]:
    """Trials as Ray tasks. Runs come back to this process, which writes them: nodes need not share a disk.

    Ray starts the tasks of a lost worker or node again, elsewhere.
    """
    import ray

    kind = work.device.partition(":")[0]
    if kind == "cuda" and work.device != "cuda":
        raise ValueError(f"on Ray a task sees one GPU, its own: device must be 'cuda', got {work.device!r}.")
    started = not ray.is_initialized()
    if started:
        ray.init(address=None if address == "local" else address, log_to_driver=False, include_dashboard=False)
    try:
        needed = {"CPU": 1, "GPU": 1} if kind == "cuda" else {"CPU": 1}
        there = ray.cluster_resources()
        if any(there.get(name, 0) < count for name, count in needed.items()):
            raise ValueError(f"a task needs {needed}, the Ray cluster has {there}. Add a node, or change --device.")
        remote = ray.remote(num_cpus=1, num_gpus=needed.get("GPU", 0), max_retries=_RETRIES)(_on_worker)
        at_once = 2 * int(min(there[name] for name in needed))
        waiting = iter(tasks)
        with ExitStack() as claims:
            running: dict[Any, tuple[Trial, ExitStack]] = {}
            while True:
                next_ones = list(islice(waiting, at_once - len(running)))
                for trial, origin in next_ones:
                    claim = claims.enter_context(ExitStack())
                    if claim.enter_context(store.claim(trial)) and store.get(trial, origin) is None:
                        running[remote.remote(trial, work)] = trial, claim
                    else:
                        claim.close()
                        yield Outcome(trial, "elsewhere")
                if running:
                    ready, _ = ray.wait(list(running))
                    trial, claim = running.pop(ready[0])
                    yield _collect(trial, ray.get, ready[0], store)
                    claim.close()
                elif not next_ones:  # else another sweep holds all of these, and those behind them wait
                    break
    finally:
        if started:
            ray.shutdown()


def _collect(trial: Trial, get: Callable[[Any], Run | Outcome], reference: Any, store: RunStore) -> Outcome:
    try:
        outcome = get(reference)
    except Exception as error:  # Ray's own: the worker died more often than it is retried
        return Outcome(trial, "failed", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    if isinstance(outcome, Outcome):
        return outcome
    try:
        store.put(outcome)
    except OSError as error:
        return Outcome(trial, "unwritable", store.unwritable(error))
    return Outcome(trial, "done")
