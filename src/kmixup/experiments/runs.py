"""Runs on disk: one JSON file each, named by the trial's id; committed ones a line each in JSON-lines files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from kmixup.experiments.files import write_whole
from kmixup.experiments.locks import hold, is_held
from kmixup.experiments.run import UNKNOWN, Origin, Run
from kmixup.experiments.trial import SCHEMA, Trial, first_mistake

__all__ = ["RunStore", "convert", "convert_file", "one_origin", "read_lines", "read_run", "write_lines"]


class RunStore:
    """Runs in a folder, one file each: ``ID.json``; ``ID-TAG.json`` if other data under the same settings came first.

    Args:
        folder: Where new runs go; made when the first is written.
        also: JSON-lines files, or folders of them, whose runs count as finished too (the committed ``results/``).

    Attributes:
        broken: Files of the folder that were met and are no runs, with the reason: they count as missing.

    Raises:
        ValueError: If a line of ``also`` is no run, or is of an older schema.
    """

    def __init__(self, folder: Path, also: Iterable[Path] = ()) -> None:
        self.folder = Path(folder)
        self.broken: dict[Path, str] = {}
        self._also: dict[str, list[Run]] = {}
        for path in also:
            for run in read_lines(path):
                self._also.setdefault(run.id, []).append(run)

    def path(self, trial: Trial, origin: Origin | None = None) -> Path:
        """The file of this trial's run; of one origin, where other data came first."""
        tagged = self.folder / f"{trial.id}-{origin.tag}.json" if origin else None
        return tagged if tagged and tagged.exists() else self.folder / f"{trial.id}.json"

    def get(self, trial: Trial, origin: Origin | None = None) -> Run | None:
        """The finished run of this trial; None if there is none, or its file is broken (see ``broken``).

        Args:
            trial: The settings.
            origin: The data and code that it must come from; None for any, if it is but one.

        Raises:
            ValueError: If there are runs of several origins, and none is asked for.
        """
        own = {self.path(trial), self.path(trial, origin)}  # a folder of thousands is not searched for each trial
        paths = sorted(own if origin else {*own, *self.folder.glob(f"{trial.id}-*.json")})
        found = [run for path in paths if (run := self._read(path)) is not None] + self._also.get(trial.id, [])
        if origin is None:
            found = _superseding(found)
            one_origin(f"trial {trial.id}", found)
        else:
            found = [run for run in found if run.comes_from(origin)]
        return found[0] if found else None

    def put(self, run: Run) -> Path:
        """Write a run: the whole file appears, or nothing does.

        Raises:
            OSError: If the folder cannot be written or the disk is full. Nothing is left behind.
        """
        path = self.path(run.trial)
        there = self._read(path)
        if path.is_dir() or (there is not None and there.origin != run.origin):
            path = self.folder / f"{run.id}-{run.origin.tag}.json"
        write_whole(path, run.model_dump_json(indent=1) + "\n")
        self.broken.pop(path, None)
        return path

    def all(self) -> list[Run]:
        """Every readable run, in the order of their ids. Of two with one id and one origin, the file's."""
        runs = {id: list(found) for id, found in self._also.items()}
        for path in self.folder.glob("*.json"):
            if (run := self._read(path)) is not None:
                runs.setdefault(run.id, []).insert(0, run)
        return [run for id in sorted(runs) for run in _superseding(runs[id])]

    def _read(self, path: Path) -> Run | None:
        try:
            run = _from_json(path.read_bytes())
            if path.stem not in (run.id, f"{run.id}-{run.origin.tag}"):
                raise ValueError("its name does not belong to its settings")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.broken[path] = str(error).splitlines()[0]
            return None
        return run

    def check_writable(self) -> None:
        """Fail now rather than after the first trial.

        Raises:
            OSError: If the folder cannot be made or written.
        """
        try:
            write_whole(self.folder / ".writable", " " * 4096)  # a full disk still takes empty files
            (self.folder / ".writable").unlink(missing_ok=True)
        except OSError as error:
            raise OSError(self.unwritable(error)) from error

    def unwritable(self, error: OSError) -> str:
        """What went wrong in writing, and the remedy."""
        return f"cannot write to {self.folder}: {error}. Make room, or choose another folder with --out."

    def claim(self, trial: Trial) -> AbstractContextManager[bool]:
        """Hold this trial while it runs; False if another process holds it. A killed process lets go by dying."""
        return hold(self._lock(trial))

    def is_claimed(self, trial: Trial) -> bool:
        """Whether a living process holds this trial."""
        return is_held(self._lock(trial))

    def _lock(self, trial: Trial) -> Path:
        return self.folder / ".locks" / trial.id


def _superseding(runs: Sequence[Run]) -> list[Run]:
    """The first run of each origin; one whose data are unknown gives way to one whose data are known."""
    by_origin: dict[str, Run] = {}
    for run in runs:
        by_origin.setdefault(UNKNOWN if run.source == UNKNOWN else run.origin.tag, run)
    if len(by_origin) > 1:
        by_origin.pop(UNKNOWN, None)
    return list(by_origin.values())


def one_origin(name: str, runs: Iterable[Run]) -> None:
    """Refuse runs that do not belong together: of other data, another version of the user's own code, or
    other defaults of options.

    Runs that do not know their data (converted ones) go with any, unless the data are the user's own.

    Args:
        name: What the runs are runs of, for the message.
        runs: Of one cell.

    Raises:
        ValueError: If they are of several origins.
    """
    origins: dict[str, list[Run]] = {}
    for run in runs:
        if run.source != UNKNOWN or run.trial.own_data:
            origins.setdefault(run.origin.tag if run.source != UNKNOWN else UNKNOWN, []).append(run)
    if len(origins) > 1:
        found = "; ".join(
            f"{tag}: {len(of)} {'run' if len(of) == 1 else 'runs'}, such as {of[0].id}" for tag, of in origins.items()
        )
        raise ValueError(
            f"{name} has runs of different data, code or options, which are never put together ({found}). "
            "Move the files of all but one away."
        )


def write_lines(path: Path, runs: Iterable[Run], points: int | None = None) -> None:
    """Write runs to one JSON-lines file, a run a line, curves thinned to some epochs.

    Args:
        path: The file.
        runs: The runs; a run that comes twice is written once.
        points: Entries of each curve to keep, the first and the last among them; None for all.
    """
    kept = runs if points is None else (run.thinned(points) for run in runs)
    lines = {(run.id, run.origin.tag): run.model_dump_json() for run in kept}
    write_whole(path, "".join(line + "\n" for line in lines.values()))


def read_run(path: Path) -> Run:
    """The run in a file of its own.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds no run, or one of another schema. The message names the file.
    """
    try:
        return _from_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no run file: {error}") from None


def _from_json(text: str | bytes) -> Run:
    document = _parsed(text)
    if not all(string.isprintable() for string in _strings(document)):
        raise ValueError("a text in it holds signs that cannot be printed")  # such as a terminal's escape codes
    schema = document.get("schema", 1) if isinstance(document, dict) and "trial" in document else SCHEMA
    if isinstance(schema, int) and schema != SCHEMA:
        remedy = "`kmixup runs convert` makes it one of this" if schema < SCHEMA else "Update kmixup to read it"
        raise ValueError(f"a run of schema {schema}, this kmixup has {SCHEMA}. {remedy}.")
    try:
        run = Run.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"not a run: {first_mistake(error)}") from None
    if run.id != run.trial.id:
        raise ValueError("its id does not belong to its settings")
    return run


def _parsed(text: str | bytes) -> Any:
    try:
        return from_json(text)  # json.loads, which recurses, ends a whole report on a file nested too deeply
    except ValueError as error:
        raise ValueError(f"not whole JSON: {error}") from None


def _strings(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict | list):
        for part in document:
            yield from _strings(part)
        if isinstance(document, dict):
            yield from _strings(list(document.values()))


def read_lines(path: Path) -> Iterator[Run]:
    """The runs of a JSON-lines file, or of all such files of a folder.

    Raises:
        OSError: If there is no such file or folder.
        ValueError: If a line is not a run of this schema. The message names it.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    for file in files:
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            try:
                yield _from_json(line)
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: {error}") from None


# What the settings meant that schema 1 left out of an id, and of committed runs, because they were at their default.
_SCHEMA_1: Mapping[str, Any] = {
    "dataset_options": {},
    "train_size": None,
    "model_options": {},
    "method": "k-mixup",
    "method_options": {},
    "k": 1,
    "alpha": 0.0,
    "alpha_rule": "exact",
    "max_alpha": 100.0,
    "metric": "sqeuclidean",
    "pairing": "roll",
    "lam_per": "batch",
    "epochs": 200,
    "batch_size": 128,
    "lr": 0.1,
    "milestones": (0.5, 0.75),
    "lr_decay": 0.1,
    "warmup_epochs": 0,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "channels_last": False,
    "precision": "float32",
    "attack_epsilons": (),
    "seed": 0,
}


def convert(document: Mapping[str, Any]) -> Run:
    """A run of this schema from one of schema 1 (before 0.2), which did not record what its data come from.

    Args:
        document: The run, as its JSON says.

    Raises:
        ValueError: If it is no run of schema 1.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("trial"), Mapping):
        raise ValueError("not a run: it has no trial")
    try:
        if document.get("schema", 1) != 1:
            raise ValueError(f"schema {document['schema']} needs no conversion")
        trial = Trial.model_validate({**_SCHEMA_1, **document["trial"]})
        return Run.model_validate({**document, "schema": SCHEMA, "id": trial.id, "trial": trial, "source": UNKNOWN})
    except KeyError as error:
        raise ValueError(f"not a run: {error} is missing") from None
    except ValidationError as error:
        raise ValueError(f"not a run: {first_mistake(error)}") from None


def convert_file(path: Path, store: RunStore) -> Path:
    """Convert a run file of schema 1 into a folder of runs; the old file stays.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If it is no run of schema 1. The message names the file.
    """
    try:
        return store.put(convert(_parsed(path.read_bytes())))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
