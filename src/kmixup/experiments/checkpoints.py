"""Checkpoints: a training under way, and trained models, on disk. Nothing that is read here can run code."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from kmixup.experiments.files import write_whole
from kmixup.experiments.run import Origin
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


def model_path(folder: Path, trial: Trial, origin: Origin) -> Path:
    """Where the model is that a trial trained on some data."""
    return folder / f"{trial.id}-{origin.tag}.safetensors"


def save_checkpoint(folder: Path, trial: Trial, state: dict[str, Any]) -> Path | None:
    """Write all that the rest of a training depends on; the file is whole or the one before it.

    A disk that is full or cannot be written costs a warning: training goes on, and its run is small.

    Returns:
        The file; None if it could not be written.
    """
    path = checkpoint_path(folder, trial)
    content = io.BytesIO()
    torch.save(state, content)
    try:
        write_whole(path, content.getvalue())
    except OSError as error:
        warnings.warn(f"no checkpoint of {trial.id}, training goes on without: {error}", stacklevel=2)
        return None
    return path


def load_checkpoint(folder: Path, trial: Trial, **belongs_to: Any) -> dict[str, Any] | None:
    """The state in a trial's checkpoint; None if there is none to continue from.

    A file that is damaged, or belongs to another trial or other data, costs a warning and is trained anew: it is
    replaced by the next checkpoint.

    Args:
        folder: Where checkpoints are.
        trial: The settings.
        **belongs_to: Entries that the state must have with these values.
    """
    path = checkpoint_path(folder, trial)
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it holds no state")
    except Exception as error:  # a damaged file can make it raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(f"{path} is not a whole checkpoint ({reason}): training starts anew.", stacklevel=2)
        return None
    for name, value in {"trial": trial.id, **belongs_to}.items():
        if state.get(name) != value:
            warnings.warn(f"{path} belongs to another {name}: training starts anew.", stacklevel=2)
            return None
    return state


def save_model(model: nn.Module, trial: Trial, origin: Origin, folder: Path) -> Path:
    """Write the weights and buffers of a trained model, with the id of its trial, as safetensors."""
    path = model_path(folder, trial, origin)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_whole(path, save(tensors, metadata={"trial": trial.id, "origin": origin.tag}))
    return path


def load_model(model: nn.Module, trial: Trial, origin: Origin, folder: Path) -> None:
    """Read a trained model's weights into a model of the same architecture.

    Raises:
        FileNotFoundError: If the trial was trained without keeping its model.
        ValueError: If the file belongs to another trial, or to other data.
    """
    path = model_path(folder, trial, origin)
    if not path.exists():
        raise FileNotFoundError(f"no trained model {path}. Train with `kmixup train ... --keep`, which writes it.")
    with safe_open(path, framework="pt") as file:
        said = file.metadata() or {}
        if (said.get("trial"), said.get("origin")) != (trial.id, origin.tag):
            raise ValueError(f"{path} belongs to trial {said.get('trial')}, not to this. Train this with --keep.")
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
