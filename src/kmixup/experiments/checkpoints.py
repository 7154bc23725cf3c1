"""Checkpoints: a training under way, and trained models, on disk. Nothing that is read here can run code."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

if TYPE_CHECKING:
    from kmixup.experiments.training import Training
    from kmixup.experiments.trial import Trial


def checkpoint_dir(runs: Path) -> Path:
    """Where the checkpoints of the trials of a folder of runs are."""
    return runs / ".checkpoints"


def discard_checkpoint(folder: Path, trial: Trial) -> None:
    """Remove a trial's checkpoint, once its run is written; the folder too, when it is empty."""
    checkpoint_path(folder, trial).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def checkpoint_path(folder: Path, trial: Trial) -> Path:
    """Where a trial's checkpoint is while it trains."""
    return folder / f"{trial.id}.ckpt"


def model_path(folder: Path, trial: Trial) -> Path:
    """Where a trial's trained model is."""
    return folder / f"{trial.id}.safetensors"


def save_checkpoint(training: Training, folder: Path) -> Path:
    """Write all that the rest of the training depends on; the file is whole or the one before it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = checkpoint_path(folder, training.trial)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    try:
        torch.save(training.state_dict(), draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def resume(training: Training, folder: Path) -> bool:
    """Continue from the trial's checkpoint, to the same numbers; False if there is none.

    Raises:
        ValueError: If the file is damaged, or belongs to another trial.
    """
    path = checkpoint_path(folder, training.trial)
    if not path.exists():
        return False
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make it raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not a whole checkpoint ({reason}). Delete it to start anew.") from error
    training.load_state_dict(state)
    return True


def save_model(model: nn.Module, trial: Trial, folder: Path) -> Path:
    """Write the weights and buffers of a trained model, with the id of its trial, as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    path = model_path(folder, trial)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    try:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, draft, metadata={"trial": trial.id})
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def load_model(model: nn.Module, trial: Trial, folder: Path) -> None:
    """Read a trained model's weights into a model of the same architecture.

    Raises:
        FileNotFoundError: If the trial was trained without keeping its model.
        ValueError: If the file belongs to another trial.
    """
    path = model_path(folder, trial)
    if not path.exists():
        raise FileNotFoundError(f"no trained model {path}. Train with `kmixup train ... --keep`, which writes it.")
    with safe_open(path, framework="pt") as file:
        made_by = (file.metadata() or {}).get("trial")
        if made_by != trial.id:
            raise ValueError(f"{path} belongs to trial {made_by}, not to {trial.id}. Train this trial with --keep.")
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
