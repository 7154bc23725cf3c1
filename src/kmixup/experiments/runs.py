"""Runs: what a trial gave, one JSON file each, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pydantic import Field, ValidationError

from kmixup.experiments.recipe import Strict, Trial

__all__ = ["Curves", "Environment", "Match", "Run", "RunStore", "Seconds"]


class Curves(Strict):
    """Learning curves, an entry an epoch; shares, not percent.

    Attributes:
        train_loss: Mean training loss on the (mixed) batches.
        train_accuracy: lam-weighted training accuracy on the (mixed) batches.
        test_error: Test error.
        epochs: The epoch of each entry, from 1; empty if every epoch is there.
    """

    train_loss: list[float]
    train_accuracy: list[float]
    test_error: list[float]
    epochs: list[int] = Field(default=[])


class Match(Strict):
    """Means over some batches of the trained data, see `kmixup.mixing.MixStats`."""

    matched_sq_distance: float
    unmatched_sq_distance: float
    self_share: float
    same_class_share: float


class Seconds(Strict):
    """Wall time: of the whole trial, and of pairing and matching within it."""

    total: float
    matching: float


class Environment(Strict):
    """Where a run was made."""

    commit: str
    versions: dict[str, str]
    device: str
    processor: str
    threads: int
    processes: int = 1


class Run(Strict):
    """What a trial gave. Errors are shares, not percent.

    Attributes:
        id: The trial's id.
        trial: The settings.
        final_error: Test error after the last epoch; None if diverged.
        best_error: Lowest test error of any epoch; chosen on the test data, so optimistic. None if diverged.
        attack_error: Test error under FGSM per epsilon (in 1/255).
        diverged: Whether the loss stopped being finite; training stopped there.
        alpha_k: The alpha that training used.
        xi: Root mean squared perturbation that alpha gives at k = 1, by the definition; the paper's tables print half
            of it. None without mixing.
        xi_k: The same of what was trained: k and alpha_k.
        attainable: Whether alpha_k reaches the xi of k = 1.
        match: What the matching did; None without mixing.
        curves: Learning curves.
        seconds: Wall time.
        environment: Where the run was made.
        note: What a reader of the numbers must know about the data.
        finished: When, UTC.
    """

    id: str
    trial: Trial
    final_error: float | None
    best_error: float | None
    attack_error: dict[str, float] = Field(default={})
    diverged: bool = False
    alpha_k: float | None = None
    xi: float | None = None
    xi_k: float | None = None
    attainable: bool = True
    match: Match | None = None
    curves: Curves
    seconds: Seconds
    environment: Environment
    note: str = ""
    finished: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def thinned(self, points: int) -> Run:
        """The same run with ``points`` entries of each learning curve, rounded to four digits."""
        count = len(self.curves.test_error)
        kept = sorted({round(i * (count - 1) / (points - 1)) for i in range(points)})
        epochs = self.curves.epochs or list(range(1, count + 1))
        curves = {
            name: [float(f"{getattr(self.curves, name)[i]:.4g}") for i in kept]
            for name in ("train_loss", "train_accuracy", "test_error")
        }
        return self.model_copy(
            update={"curves": Curves.model_validate({**curves, "epochs": [epochs[i] for i in kept]})}
        )


class RunStore:
    """Runs in a folder, one file each, named by the trial's id.

    Args:
        folder: Where new runs go; made when the first is written.
        also: JSON-lines files, or folders of them, whose runs count as finished too (the committed ``results/``).
    """

    def __init__(self, folder: Path, also: Iterable[Path] = ()) -> None:
        self.folder = Path(folder)
        self.broken: dict[Path, str] = {}
        self._finished = {run.id: run for path in also for run in _read_lines(path)}

    def path(self, trial: Trial) -> Path:
        """The file of this trial's run."""
        return self.folder / f"{trial.id}.json"

    def get(self, trial: Trial) -> Run | None:
        """The finished run of this trial; None if there is none, or its file is broken (see ``broken``)."""
        return self._read(self.path(trial)) or self._finished.get(trial.id)

    def put(self, run: Run) -> Path:
        """Write a run: the whole file appears, or nothing does.

        Raises:
            OSError: If the folder cannot be written or the disk is full. Nothing is left behind.
        """
        path = self.folder / f"{run.id}.json"
        write_whole(path, run.model_dump_json(indent=1) + "\n")
        return path

    def all(self) -> list[Run]:
        """Every readable run, in the order of their ids."""
        runs = dict(self._finished)
        for path in self.folder.glob("*.json"):
            if (run := self._read(path)) is not None:
                runs[run.id] = run
        return [runs[id] for id in sorted(runs)]

    def _read(self, path: Path) -> Run | None:
        try:
            run = Run.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.broken[path] = str(error).splitlines()[0]
            return None
        if run.id != path.stem or run.trial.id != run.id:
            self.broken[path] = "its name does not belong to its settings"
            return None
        return run

    def check_writable(self) -> None:
        """Fail now rather than after the first trial.

        Raises:
            OSError: If the folder cannot be made or written.
        """
        try:
            write_whole(self.folder / ".writable", "")
            (self.folder / ".writable").unlink(missing_ok=True)
        except OSError as error:
            raise OSError(f"cannot write to {self.folder}: {error}. Choose another folder with --out.") from error

    @contextmanager
    def claim(self, trial: Trial) -> Iterator[bool]:
        """Hold this trial while it runs; False if another process holds it. A killed process lets go by dying."""
        path = self.folder / ".locks" / trial.id
        with ExitStack() as files:
            mine = False
            while not mine:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = files.enter_context(path.open("w"))
                if not _try_lock(file):
                    break
                # Another process may have let go of the file, and so removed it, between our opening and locking it.
                mine = _is_still(path, file)
            try:
                yield mine
            finally:
                if mine:
                    path.unlink(missing_ok=True)

    def is_claimed(self, trial: Trial) -> bool:
        """Whether a living process holds this trial."""
        try:
            with (self.folder / ".locks" / trial.id).open("r+") as file:
                return not _try_lock(file)
        except FileNotFoundError:
            return False


def _is_still(path: Path, file: IO[str]) -> bool:
    """Whether the path leads to this open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _try_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed, also by death; False if another process has it."""
    try:
        import fcntl
    except ImportError:
        return True  # no such locks on this system: two sweeps may do a trial twice, to the same numbers
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_lines(path: Path, runs: Iterable[Run], points: int) -> None:
    """Write runs to one JSON-lines file, a run a line, curves thinned to some epochs.

    Args:
        path: The file.
        runs: The runs; a run that comes twice is written once.
        points: Entries of each curve to keep, the first and the last among them.
    """
    lines = {run.id: run.thinned(points).model_dump_json(exclude_defaults=True) for run in runs}
    write_whole(path, "".join(line + "\n" for line in lines.values()))


def write_whole(path: Path, text: str) -> None:
    """Write a file, and its folder if need be, so that no reader ever sees a part of it, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id: two sweeps may write the same run at once.
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _read_lines(path: Path) -> Iterator[Run]:
    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                yield Run.model_validate_json(line)
            except ValidationError as error:
                raise ValueError(f"{file}, line {number}: not a run: {error.errors()[0]['msg']}") from None
