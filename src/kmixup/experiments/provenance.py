"""Where a run comes from: data, code, options, commit, versions, processor, core."""

from __future__ import annotations

import json
import platform
import subprocess
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import torch

from kmixup.experiments.datasets import load_data, read_dataset_options
from kmixup.experiments.methods import read_method_options
from kmixup.experiments.models import read_model_options
from kmixup.experiments.named import is_own, own
from kmixup.experiments.run import Environment, Origin, Run
from kmixup.experiments.trial import Trial
from kmixup.native import available

__all__ = ["Origins", "environment", "origin_of"]

_PACKAGES = ("kmixup", "torch", "numpy", "scipy", "scikit-learn")


def origin_of(trial: Trial, source: str) -> Origin:
    """What a run of this trial is made from; the user's own modules are imported.

    Args:
        trial: The settings.
        source: Of its data, see `kmixup.experiments.datasets.Data`.

    Raises:
        ValueError: If a data set, model or method does not exist, or an option is unknown or wrong.
    """
    names = (trial.dataset, trial.model, trial.method)
    options = {
        "dataset": read_dataset_options(trial.dataset, trial.dataset_options),
        "model": read_model_options(trial.model, trial.model_options),
        "method": read_method_options(trial.method, trial.method_options),
    }
    code = {name: own(name)[1] for name in names if is_own(name)}
    # As their text has them: what is compared is what a file can hold.
    return Origin(source, code, json.loads(json.dumps(options, default=str)))


class Origins:
    """The origins of the trials of a sweep: each data set is loaded once, so that its source is compared once.

    Args:
        data_dir: Where data files are.

    Attributes:
        unchecked: Why a data set could not be loaded, by its name: its finished runs were not compared with it.
    """

    def __init__(self, data_dir: Path | None = None) -> None:
        self.unchecked: dict[str, str] = {}
        self._data_dir = data_dir
        self._sources: dict[str, str | None] = {}
        self._origins: dict[str, Origin | None] = {}

    def of(self, trial: Trial) -> Origin | None:
        """The origin that a run of this trial has today; None if its data are not here.

        Raises:
            ValueError: If a data set, model or method does not exist, or an option is unknown or wrong.
        """
        key = _names(trial)
        if key not in self._origins:
            origin = origin_of(trial, "")  # a wrong name or option ends the sweep; wrong data end their trials alone
            source = self._source(trial)
            self._origins[key] = None if source is None else replace(origin, source=source)
        return self._origins[key]

    def _source(self, trial: Trial) -> str | None:
        key = _text(trial.dataset, trial.dataset_options)
        if key not in self._sources:
            self._sources[key] = None
            try:
                data = load_data(trial.dataset, self._data_dir, trial.seed_for("data"), trial.dataset_options)
                self._sources[key] = data.source
            except Exception as error:  # the user's own loader may raise anything
                self.unchecked[trial.dataset] = f"{type(error).__name__}: {error}"
        return self._sources[key]

    def fits(self, run: Run) -> bool:
        """Whether a run comes from the data and code of today, as far as they were looked at."""
        origin = self._origins.get(_names(run.trial))
        return origin is None or run.comes_from(origin)


def _names(trial: Trial) -> str:
    data = (trial.dataset, trial.dataset_options)
    return _text(*data, trial.model, trial.model_options, trial.method, trial.method_options)


def _text(*names: object) -> str:
    return json.dumps(names, sort_keys=True, default=str)


def environment(device: str, threads: int, processes: int) -> Environment:
    """Where this process trains.

    Args:
        device: As torch has it.
        threads: CPU threads.
        processes: How many train together.
    """
    return Environment(
        commit=commit(),
        versions=_versions(),
        device=device,
        processor=_processor(device),
        threads=threads,
        processes=processes,
        core="native" if available() else "reference",
    )


@lru_cache(maxsize=1)
def commit() -> str:
    """The commit of kmixup's sources in use; empty outside a checkout of kmixup.

    An installed package may lie in somebody else's repository (a virtual environment in a project): that one's commit
    says nothing about kmixup.
    """
    package = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=package, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() / "src" / "kmixup" != package:
            return ""
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


@lru_cache
def _processor(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
